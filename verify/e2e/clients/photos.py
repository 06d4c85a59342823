"""Uploads photos to the site and waits for the results.

upload URL COUNT      uploads COUNT pictures, prints the location of each
pending URL LOCATION… prints how many of the photos are not done yet
wait URL LOCATION…    fails unless every photo becomes the picture that was asked for
"""
import struct
import sys
import time
import urllib.request
import zlib

SIDE = 600
# The wide blurs make a job take longer than the upload of the next, so that there is a backlog.
OPERATIONS = "blur:20,blur:20,blur:20,blur:20,crop:50x50+400x300,resize:200x150,blur:1.5,sharpen:1.0"


def png(seed):
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)
        for x in range(SIDE):
            rows += bytes(((x * seed) & 255, (y * 3) & 255, (x ^ y) & 255))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows), 1)) + chunk(b"IEND", b"")


def upload(url, count):
    for number in range(int(count)):
        request = urllib.request.Request(
            f"{url}/photos?ops={OPERATIONS}", data=png(number + 1), headers={"Content-Type": "image/png"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202, answer.status
            print(answer.headers["Location"], flush=True)


def pending(url, *locations):
    count = 0
    for location in locations:
        with urllib.request.urlopen(url + location, timeout=30) as answer:
            count += answer.status == 202
    print(count)


def wait(url, *locations):
    deadline = time.monotonic() + 90
    for location in locations:
        while True:
            with urllib.request.urlopen(url + location, timeout=30) as answer:
                body = answer.read()
                if answer.status == 200:
                    assert answer.headers["Content-Type"].startswith("image/"), answer.headers
                    assert "max-age" in answer.headers["Cache-Control"], answer.headers
                    assert body[:4] == b"\x89PNG", "the format that was sent"
                    assert struct.unpack(">II", body[16:24]) == (200, 150), "the size asked for"
                    break
                assert answer.status == 202 and b"failed" not in body, body
            if time.monotonic() > deadline:
                sys.exit(f"{location} is not done: {body!r}")
            time.sleep(0.1)
    print(f"all {len(locations)} done")


{"upload": upload, "pending": pending, "wait": wait}[sys.argv[1]](*sys.argv[2:])
