//! What was synced is kept, everything else is lost, as seen by an ordinary program.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use forgetful::{Mounted, Syncs};
use support::mounted;

const O_DSYNC: i32 = 0o10000;
#[cfg(target_arch = "x86_64")]
const O_DIRECT: i32 = 0o40000;
#[cfg(not(target_arch = "x86_64"))]
const O_DIRECT: i32 = 0o200_000;

/// A file that is there after a loss of power, empty.
fn kept_file(mounted: &Mounted, name: &str) -> File {
    let file =
        File::options().read(true).write(true).create(true).truncate(false).open(mounted.path().join(name));
    sync_folder(mounted.path());
    file.expect("made")
}

fn sync_folder(path: &Path) {
    File::open(path).expect("there").sync_all().expect("synced");
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("there")
        .map(|entry| entry.expect("one").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_not_synced_is_lost_and_what_was_is_kept() {
    let Some((_dir, mounted)) = mounted() else { return };
    let mut file = kept_file(&mounted, "file");
    file.write_all(b"synced ").expect("written");
    file.sync_data().expect("synced");
    file.write_all(b"and not").expect("written");
    file.write_all_at(b"S", 0).expect("written");
    drop(file);
    let path = mounted.path().join("file");
    assert_eq!(fs::read(&path).expect("read"), b"Synced and not", "seen until the power goes");
    mounted.lose_power(None);
    assert_eq!(fs::read(&path).expect("read"), b"synced ");
    mounted.lose_power(None);
    assert_eq!(fs::read(&path).expect("read"), b"synced ");
}

#[test]
fn a_synchronous_write_takes_only_itself_along() {
    let Some((_dir, mounted)) = mounted() else { return };
    let plain = kept_file(&mounted, "file");
    plain.write_all_at(&[1; 4096], 0).expect("written");
    let path = mounted.path().join("file");
    let synchronous = File::options().write(true).custom_flags(O_DSYNC).open(&path).expect("opened");
    synchronous.write_all_at(&[2; 4096], 8192).expect("written");
    mounted.lose_power(None);
    let expected = [&[0; 8192][..], &[2; 4096]].concat();
    assert!(fs::read(&path).expect("read") == expected);
}

#[test]
fn direct_writes_are_forgotten_like_others() {
    let Some((_dir, mounted)) = mounted() else { return };
    let path = mounted.path().join("file");
    drop(kept_file(&mounted, "file"));
    runtime::block_on(&runtime::Options::default(), async {
        use runtime::fs::{File, OpenOptions};
        let options = OpenOptions::new().read(true).write(true).direct(true);
        let file = File::open(&path, &options).await.expect("O_DIRECT is taken");
        file.append_durable(0, vec![runtime::AlignedBuf::zeroed(4096)]).await.expect("written");
        let mut ones = runtime::AlignedBuf::zeroed(4096);
        ones.fill(1);
        // RWF_DSYNC on a descriptor that is not synchronous itself.
        file.append_durable(4096, vec![ones]).await.expect("written");
    })
    .expect("ran");
    let direct = File::options().write(true).custom_flags(O_DIRECT).open(&path);
    assert!(direct.is_ok());
    mounted.lose_power(None);
    assert!(fs::read(&path).expect("read") == [&[0; 4096][..], &[1; 4096]].concat());
}

#[test]
fn names_are_lost_until_their_folder_is_synced() {
    let Some((_dir, mounted)) = mounted() else { return };
    let root = mounted.path();
    let mut file = kept_file(&mounted, "old");
    file.write_all(b"x").expect("written");
    file.sync_all().expect("synced");
    File::create(root.join("new")).expect("made").sync_all().expect("synced");
    fs::create_dir(root.join("folder")).expect("made");
    assert_eq!(names(root), ["folder", "new", "old"]);
    mounted.lose_power(None);
    assert_eq!(names(root), ["old"]);

    #[allow(clippy::disallowed_methods, reason = "the folder is not to be synced")]
    fs::rename(root.join("old"), root.join("renamed")).expect("renamed");
    assert_eq!(names(root), ["renamed"]);
    mounted.lose_power(None);
    assert_eq!(names(root), ["old"]);
    #[allow(clippy::disallowed_methods, reason = "the folder is synced right here")]
    fs::rename(root.join("old"), root.join("renamed")).expect("renamed");
    sync_folder(root);
    mounted.lose_power(None);
    assert_eq!(names(root), ["renamed"]);

    fs::remove_file(root.join("renamed")).expect("removed");
    assert_eq!(names(root), [""; 0]);
    mounted.lose_power(None);
    assert_eq!(fs::read(root.join("renamed")).expect("back"), b"x");
    fs::remove_file(root.join("renamed")).expect("removed");
    sync_folder(root);
    mounted.lose_power(None);
    assert_eq!(names(root), [""; 0]);
}

#[test]
fn cuts_and_allocations_are_lost_too() {
    let Some((_dir, mounted)) = mounted() else { return };
    let file = kept_file(&mounted, "file");
    file.write_all_at(&[7; 5000], 0).expect("written");
    file.sync_all().expect("synced");
    file.set_len(100).expect("cut");
    mounted.lose_power(None);
    assert!(fs::read(mounted.path().join("file")).expect("read") == [7; 5000]);
    file.set_len(100).expect("cut");
    file.sync_data().expect("synced");
    file.set_len(200).expect("extended");
    mounted.lose_power(None);
    assert!(fs::read(mounted.path().join("file")).expect("read") == [7; 100]);
}

#[test]
fn some_of_what_was_not_synced_may_survive() {
    let Some((_dir, mounted)) = mounted() else { return };
    let file = kept_file(&mounted, "file");
    file.write_all_at(&[1; 64 * 512], 0).expect("written");
    file.sync_all().expect("synced");
    file.write_all_at(&[2; 64 * 512], 0).expect("written");
    mounted.lose_power(Some(7));
    let content = fs::read(mounted.path().join("file")).expect("read");
    let sectors: Vec<&[u8]> = content.chunks(512).collect();
    assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "sectors are whole");
    let survived = sectors.iter().filter(|sector| sector[0] == 2).count();
    assert!((10..54).contains(&survived), "{survived} of 64");
}

#[test]
fn syncs_can_be_taken_out_and_can_fail() {
    let Some((_dir, mounted)) = mounted() else { return };
    let mut file = kept_file(&mounted, "file");
    mounted.set_syncs(Syncs::Ignored);
    file.write_all(b"x").expect("written");
    file.sync_all().expect("so it says");
    mounted.lose_power(None);
    assert_eq!(fs::read(mounted.path().join("file")).expect("read"), b"");
    mounted.set_syncs(Syncs::Failing);
    file.write_all(b"x").expect("written");
    assert_eq!(file.sync_data().expect_err("fails").raw_os_error(), Some(5));
}

#[test]
fn the_control_file_does_the_same_from_outside() {
    let Some((_dir, mounted)) = mounted() else { return };
    let tell = |text: &str| {
        let mut control =
            File::options().write(true).open(mounted.path().join(forgetful::CONTROL_NAME)).expect("there");
        control.write_all(text.as_bytes())
    };
    let mut file = kept_file(&mounted, "file");
    file.write_all(b"x").expect("written");
    tell("lose-power\n").expect("done");
    assert_eq!(fs::read(mounted.path().join("file")).expect("read"), b"");
    tell("syncs failing\n").expect("done");
    assert!(file.sync_data().is_err());
    tell("syncs honest\n").expect("done");
    assert!(file.sync_data().is_ok());
    assert!(tell("what?\n").is_err());
    assert_eq!(names(mounted.path()), ["file"], "it is in no listing");
}

#[test]
fn space_has_an_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let Ok(mounted) = Mounted::on(dir.path(), 100 * 4096) else { return };
    let mut file = kept_file(&mounted, "file");
    file.write_all(&[1; 90 * 4096]).expect("room");
    let refused = file.write_all(&[1; 20 * 4096]).expect_err("no room");
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
}
