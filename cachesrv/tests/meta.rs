//! The meta commands, answer by answer.

mod pure;

use pure::Connection;

#[test]
fn get_shows_what_is_asked_in_order() {
    let mut c = Connection::new();
    c.expect("mg k v\n", "EN\n");
    c.expect("mg k v q Oabc k\n", "");
    c.expect("mg k v Oabc k\n", "EN Oabc kk\n");
    c.expect("set k 7 100 3\nabc\n", "STORED\n");
    c.expect("mg k\n", "HD\n");
    c.expect("mg k s t c f Oxy k\n", "HD s3 t100 c1 f7 Oxy kk\n");
    c.expect("mg k v\n", "VA 3\nabc\n");
    c.expect("mg k k v s\n", "VA 3 kk s3\nabc\n");
    c.ms = 10_001;
    c.expect("mg k t l h\n", "HD t90 l10 h1\n");
    c.expect("mg k l\n", "HD l0\n");
    c.expect("touch k 0\nmg k t\n", "TOUCHED\nHD t-1\n");
}

#[test]
fn hit_and_last_access_are_those_before_the_command() {
    let mut c = Connection::new();
    c.expect("ms k 1\na\n", "HD\n");
    c.ms = 5_000;
    c.expect("mg k h l u\n", "HD h0 l5\n");
    c.expect("mg k h l\n", "HD h0 l5\n");
    c.expect("mg k h l\n", "HD h1 l0\n");
}

#[test]
fn get_can_set_the_ttl() {
    let mut c = Connection::new();
    c.expect("ms k 1 T10\na\nmg k T50 t\n", "HD\nHD t50\n");
    c.expect("mg k t T20\nmg k t\n", "HD t50\nHD t20\n");
}

#[test]
fn a_miss_can_be_filled_by_one() {
    let mut c = Connection::new();
    c.expect("mg k N30 t v\n", "VA 0 t30 W\n\n");
    c.expect("mg k N30 v\n", "VA 0 Z\n\n");
    c.expect("mg k s c\n", "HD s0 c1 Z\n");
    c.expect("ms k 3 T30\nnew\nmg k v\n", "HD\nVA 3\nnew\n");
    c.expect("mg n N30 E9999 c\n", "HD c9999 W\n");
}

#[test]
fn one_refreshes_before_the_end() {
    let mut c = Connection::new();
    c.expect("ms k 1 T30\na\n", "HD\n");
    c.expect("mg k R30\n", "HD\n");
    c.ms = 10_000;
    c.expect("mg k R20\n", "HD\n");
    c.expect("mg k R21\n", "HD W\n");
    c.expect("mg k R21\n", "HD Z\n");
    c.expect("ms e 1\na\nmg e R21\n", "HD\nHD\n");
}

#[test]
fn stale_items_go_to_one_refiller() {
    let mut c = Connection::new();
    c.expect("ms k 1 c\na\n", "HD c1\n");
    c.expect("md k I T30\n", "HD\n");
    c.expect("mg k v t c\n", "VA 1 t30 c2 X W\na\n");
    c.expect("mg k v\n", "VA 1 Z X\na\n");
    c.expect("md k I E7\nmg k c\nmg k\n", "HD\nHD c7 X W\nHD Z X\n");
    c.expect("ms k 1 C7 T0\nb\nmg k v\n", "HD\nVA 1\nb\n");
}

#[test]
fn a_late_refill_is_stored_as_stale() {
    let mut c = Connection::new();
    c.expect("ms k 1 T60 c\na\n", "HD c1\n");
    c.expect("md k I\nmg k c\n", "HD\nHD c2 X W\n");
    c.expect("ms k 1 C1\nb\n", "EX\n");
    c.expect("ms k 1 C1 I T900\nb\n", "HD\n");
    c.expect("mg k v t\n", "VA 1 t60 Z X\nb\n");
    c.expect("ms k 1 C9999 I\nc\n", "EX\n");
    c.expect("ms none 1 C1 I\nc\n", "NF\n");
}

#[test]
fn set_modes() {
    let mut c = Connection::new();
    c.expect("ms k 1 MR\na\n", "NS\n");
    c.expect("ms k 1 MA\na\n", "NS\n");
    c.expect("ms k 1 ME s F5\na\n", "HD s1\n");
    c.expect("ms k 1 ME\nb\n", "NS\n");
    c.expect("ms k 1 MA s\nb\nms k 1 MP s\n0\nmg k v f\n", "HD s2\nHD s3\nVA 3 f5\n0ab\n");
    c.expect("ms k 1 MR\nz\nms k 1 MS q\ny\nmg k v\n", "HD\nVA 1\ny\n");
    c.expect("ms v 1 MA N30\na\nmg v t v\n", "HD\nVA 1 t30\na\n");
    c.expect("ms k 1 MZ\na\n", "CLIENT_ERROR invalid mode for ms M token\n");
    c.expect("ms k 1 E77 c k O1\na\n", "HD c77 kk O1\n");
    c.expect("ms k 1 C76\nb\nms k 1 C77 MR\nc\n", "EX\nHD\n");
}

#[test]
fn set_faults() {
    let mut c = Connection::new();
    c.expect("ms k x\n", "CLIENT_ERROR bad command line format\n");
    c.expect("ms k\n", "CLIENT_ERROR bad command line format\n");
    c.expect("ms k 3 !\nabc\nmn\n", "CLIENT_ERROR invalid flag\nMN\n");
    c.expect("ms k 3 Tx\nabc\nmn\n", "CLIENT_ERROR bad token in command line format\nMN\n");
    c.expect("ms k 2 q\nabcd\n", "CLIENT_ERROR bad data chunk\nERROR\n");
    let large = "x".repeat(1 << 20);
    c.expect("ms k 1\na\n", "HD\n");
    c.expect(
        &format!("ms k {} q\n{large}\nmg k\n", 1 << 20),
        "SERVER_ERROR object too large for cache\nEN\n",
    );
}

#[test]
fn deletes() {
    let mut c = Connection::new();
    c.expect("md k\nmd k q\n", "NF\nNF\n");
    c.expect("ms k 1 c\na\n", "HD c1\n");
    c.expect("md k C5 O1 k\n", "EX O1 kk\n");
    c.expect("md k C1 q\nmg k\n", "EN\n");
    c.expect("ms k 3 F5\nabc\nmd k x T30\nmg k v f t\n", "HD\nHD\nVA 0 f0 t30\n\n");
    c.expect("md k I E500\nmg k c u\n", "HD\nHD c500 X W\n");
}

#[test]
fn arithmetic() {
    let mut c = Connection::new();
    c.expect("ma k O1 k\nma k q\n", "NF O1 kk\nNF\n");
    c.expect("ma k N0 J13 v\n", "VA 2\n13\n");
    c.expect(
        "ma k v\nma k MD D4 v t\nma k M- v\nma k M+ D92 v\n",
        "VA 2\n14\nVA 2 t-1\n10\nVA 1\n9\nVA 3\n101\n",
    );
    c.expect("ma k q\nmg k v\n", "VA 3\n102\n");
    c.expect("ma k C1\n", "EX\n");
    c.expect("ma k T30 t E900 c\n", "HD t30 c900\n");
    c.expect("ma k MX\n", "CLIENT_ERROR invalid mode for ma M token\n");
    c.expect("ms t 1\nx\nma t q\n", "HD\nCLIENT_ERROR cannot increment or decrement non-numeric value\n");
    c.expect("ma n N90 t\n", "HD t90\n");
}

#[test]
fn binary_keys() {
    let mut c = Connection::new();
    c.expect("ms AAECIA== 1 b k\na\n", "HD kAAECIA== b\n");
    c.expect("mg AAECIA== b k v\n", "VA 1 kAAECIA== b\na\n");
    c.expect("mg AAECIA== v\n", "EN\n");
    c.expect("mg Zm9v b k\nms foo 1\nx\nmg Zm9v b k v\n", "EN kZm9v b\nHD\nVA 1 kfoo\nx\n");
    c.expect("md AAECIA== b k\n", "HD kAAECIA== b\n");
}

#[test]
fn the_rest() {
    let mut c = Connection::new();
    c.expect("mn\n", "MN\n");
    c.expect("me k\n", "EN\n");
    c.expect("ms k 3 T90\nabc\n", "HD\n");
    c.expect("me k\n", "ME k exp=90 la=0 cas=1 fetch=no cls=1 size=32\n");
    c.expect("mz k\n", "ERROR\n");
}
