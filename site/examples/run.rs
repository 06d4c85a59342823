fn main() {
    let half = std::env::args().nth(1).unwrap();
    let file = std::env::args().nth(2).unwrap();
    ops::logs::init(ops::logs::Format::Text);
    let text = std::fs::read_to_string(&file).unwrap();
    let admin = std::env::args().nth(3).map(|a| a.parse().unwrap());
    let service =
        ops::Service::start(ops::Options { name: "site", admin, config: text.clone(), ..Default::default() })
            .unwrap();
    let r = match half.as_str() {
        "web" => site::web::run(ops::config::parse(&text, &file).unwrap(), &service),
        _ => site::worker::run(ops::config::parse(&text, &file).unwrap(), &service),
    };
    eprintln!("ended: {r:?}");
    service.shutdown();
}
