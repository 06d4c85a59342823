//! Files on a real disk.

mod backends;

use backends::on_each;
use runtime::fs::{self, File, OpenOptions};
use runtime::{AlignedBuf, BLOCK_BYTES};
use std::io::ErrorKind;

fn new_file() -> OpenOptions {
    OpenOptions::new().read(true).write(true).create_new(true)
}

/// A folder on a real disk: the target folder's, as /tmp may be memory without O_DIRECT.
#[cfg(not(sim))]
async fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[cfg(sim)]
struct Folder;

#[cfg(sim)]
impl Folder {
    fn path(&self) -> &std::path::Path {
        std::path::Path::new("/data")
    }
}

/// A folder on the simulated disk.
#[cfg(sim)]
async fn folder() -> Folder {
    fs::create_dir_all("/data").await.unwrap();
    Folder
}

#[test]
fn what_was_appended_durably_is_read_back() {
    on_each(|| async {
        let folder = folder().await;
        let file = File::open(folder.path().join("log"), &new_file().direct(true)).await.unwrap();
        file.allocate(0, 64 * BLOCK_BYTES as u64).await.unwrap();
        let mut buffers = Vec::new();
        for number in 0..5u8 {
            let mut buffer = AlignedBuf::zeroed(BLOCK_BYTES * 2);
            buffer.fill(number + 1);
            buffers.push(buffer);
        }
        let buffers = file.append_durable(BLOCK_BYTES as u64, buffers).await.unwrap();
        assert_eq!(buffers.len(), 5);
        let (read, len) = file.read_direct(0, AlignedBuf::zeroed(BLOCK_BYTES * 12)).await.unwrap();
        assert_eq!(len, BLOCK_BYTES * 12);
        for (block, bytes) in read.chunks(BLOCK_BYTES).enumerate() {
            let expected = if (1..11).contains(&block) { (block as u8).div_ceil(2) } else { 0 };
            assert!(bytes.iter().all(|byte| *byte == expected), "block {block}");
        }
    });
}

#[test]
fn overlapping_operations_each_get_their_own() {
    on_each(|| async {
        let folder = folder().await;
        let path = folder.path().join("many");
        let file = std::rc::Rc::new(File::open(&path, &new_file()).await.unwrap());
        let writes: Vec<_> = (0..200u64)
            .map(|at| {
                let file = file.clone();
                runtime::spawn(async move { file.write_at(at * 1000, vec![at as u8; 1000]).await.unwrap() })
            })
            .collect();
        for write in writes {
            write.await;
        }
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
        for at in (0..200u64).rev() {
            assert_eq!(file.read_at(at * 1000, 1000).await.unwrap(), vec![at as u8; 1000]);
        }
        assert_eq!(file.read_at(199_900, 5000).await.unwrap().len(), 100, "short at the end");
        file.set_len(1500).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 1500);
        assert_eq!(fs::read(&path).await.unwrap().len(), 1500);
    });
}

#[test]
fn a_write_whose_future_was_dropped_keeps_its_memory() {
    on_each(|| async {
        let folder = folder().await;
        let file = File::open(folder.path().join("dropped"), &new_file()).await.unwrap();
        for _ in 0..50 {
            // Dropped after its first poll, with the write on its way to the kernel.
            let mut write = Box::pin(file.write_at(0, vec![3; 1 << 20]));
            std::future::poll_fn(|context| {
                let _ = std::future::Future::poll(write.as_mut(), context);
                std::task::Poll::Ready(())
            })
            .await;
            drop(write);
        }
        file.sync_all().await.unwrap();
        let read = file.read_at(0, 1 << 20).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 3));
    });
}

#[test]
fn a_file_is_replaced_wholly_and_a_folder_is_locked() {
    on_each(|| async {
        let folder = folder().await;
        let path = folder.path().join("state");
        fs::write_atomic(&path, "one").await.unwrap();
        fs::write_atomic(&path, "two").await.unwrap();
        assert_eq!(fs::read(&path).await.unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).await.unwrap(), std::slice::from_ref(&path));
        fs::rename(&path, folder.path().join("moved")).await.unwrap();
        assert_eq!(fs::read(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
        fs::remove_file(folder.path().join("moved")).await.unwrap();
        fs::create_dir_all(folder.path().join("a/b/c")).await.unwrap();
        fs::sync_dir(folder.path().join("a/b/c")).await.unwrap();
        let lock = fs::lock_dir(folder.path()).await.unwrap();
        assert_eq!(fs::lock_dir(folder.path()).await.unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        fs::lock_dir(folder.path()).await.unwrap();
    });
}
