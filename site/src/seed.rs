//! The users of a fresh site: 1 to [`USERS`], invented, the same on every site. Phone numbers are of the block
//! 555-01xx, which is kept for fiction; user 12 is the one that the documentation shows.

use crate::user::{Address, User};

/// How many users a fresh site has.
pub const USERS: u32 = 100;

/// The password of every user of a fresh site. It is public: change it before anyone else can log in.
pub const DEMO_PASSWORD: &str = "millrace";

const FIRST: [&str; 25] = [
    "Ada",
    "Grace",
    "Alan",
    "Edsger",
    "Barbara",
    "Donald",
    "Frances",
    "Ken",
    "Radia",
    "Dennis",
    "Margaret",
    "Tony",
    "Shafi",
    "Leslie",
    "Jean",
    "Vint",
    "Katherine",
    "Niklaus",
    "Lynn",
    "Butler",
    "Adele",
    "Robin",
    "Hedy",
    "Jim",
    "Mary",
];
const LAST: [&str; 20] = [
    "Okafor",
    "Nguyen",
    "Garcia",
    "Kowalski",
    "Haddad",
    "Johansson",
    "Patel",
    "Moreau",
    "Silva",
    "Tanaka",
    "Murphy",
    "Rossi",
    "Larsen",
    "Ivanova",
    "Mensah",
    "Schneider",
    "Kim",
    "Costa",
    "Novak",
    "Brown",
];
const STREET: [&str; 12] = [
    "Maple Street",
    "2nd Avenue",
    "Mill Lane",
    "Harbor Road",
    "Elm Street",
    "Station Street",
    "Oak Avenue",
    "River Road",
    "Church Street",
    "Park Place",
    "Sunset Boulevard",
    "Quarry Hill",
];
/// City, state, area code, postal code.
const CITY: [(&str, &str, u32, u32); 16] = [
    ("New York", "NY", 212, 10021),
    ("Chicago", "IL", 312, 60614),
    ("Portland", "OR", 503, 97209),
    ("Austin", "TX", 512, 78704),
    ("Denver", "CO", 303, 80203),
    ("Seattle", "WA", 206, 98103),
    ("Atlanta", "GA", 404, 30307),
    ("Minneapolis", "MN", 612, 55408),
    ("Pittsburgh", "PA", 412, 15213),
    ("San Diego", "CA", 619, 92103),
    ("Nashville", "TN", 615, 37206),
    ("Milwaukee", "WI", 414, 53202),
    ("Tucson", "AZ", 520, 85719),
    ("Richmond", "VA", 804, 23220),
    ("Madison", "WI", 608, 53703),
    ("Omaha", "NE", 402, 68131),
];

/// The user `id` of a fresh site.
pub fn user(id: u32) -> User {
    if id == 12 {
        return User {
            id,
            first_name: "John".into(),
            last_name: "Smith".into(),
            address: Address {
                street_address: "21 2nd Street".into(),
                city: "New York".into(),
                state: "NY".into(),
                postal_code: 10021,
            },
            phone_numbers: vec!["212 555-1234".into(), "646 555-4567".into()],
        };
    }
    // Strides without a common factor with the lengths, so that neighbours differ in every field.
    let pick = |stride: u32, len: usize| (id * stride) as usize % len;
    let (city, state, area, postal_code) = CITY[pick(5, CITY.len())];
    User {
        id,
        first_name: FIRST[pick(7, FIRST.len())].into(),
        last_name: LAST[(pick(3, LAST.len()) + id as usize / LAST.len()) % LAST.len()].into(),
        address: Address {
            street_address: format!("{} {}", 1 + (id * 37) % 900, STREET[pick(5, STREET.len())]),
            city: city.into(),
            state: state.into(),
            postal_code,
        },
        phone_numbers: (0..id % 3)
            .map(|line| format!("{area} 555-01{:02}", (id + 50 * line) % 100))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn user_12_is_the_one_of_the_documentation() {
        assert_eq!(
            user(12).to_json(),
            r#"{"id":12,"firstName":"John","lastName":"Smith","address":{"streetAddress":"21 2nd Street","city":"New York","state":"NY","postalCode":10021},"phoneNumbers":["212 555-1234","646 555-4567"]}"#
        );
    }

    #[test]
    fn all_are_valid_and_no_two_share_a_name() {
        let mut names = HashSet::new();
        for id in 1..=USERS {
            let user = user(id);
            assert_eq!(User::parse(id, user.to_json().as_bytes()).as_ref(), Ok(&user));
            assert!(names.insert((user.first_name, user.last_name)), "user {id} repeats a name");
        }
    }
}
