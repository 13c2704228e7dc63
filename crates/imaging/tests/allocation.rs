//! What reading an image takes in memory: in a process of its own, whose allocations are counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;
use reverie_imaging::fit::{Fit, Reader};
use reverie_imaging::pictures;
use reverie_proto::tensor::v1::Image;

/// The system's allocator, counting.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one hands everything on")]
// SAFETY: memory is the system allocator's, under its own layouts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A file of some hundred bytes: scaled as a whole before its middle is cut out, it would take 616 MB.
#[test]
fn an_image_of_extreme_proportions_takes_no_more_than_its_square() {
    for (width, height) in [(4096, 1), (1, 4096)] {
        let mut file = Cursor::new(Vec::new());
        RgbImage::new(width, height).write_to(&mut file, image::ImageFormat::Png).expect("it is encoded");
        let message = Image { data: file.into_inner().into(), ..Image::default() };
        let picture = pictures::decode(&message).expect("it is decoded");
        for (shorter, fit) in
            [(Some(224), Fit::Crop), (Some(224), Fit::Pad), (None, Fit::Crop), (None, Fit::Pad)]
        {
            let before = LIVE.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let square = Reader { side: 224, shorter }.square(&picture, fit);
            assert_eq!(square.dimensions(), (224, 224));
            let most = MOST.load(Ordering::Relaxed) - before;
            assert!(most < 8 << 20, "{width} x {height}, {shorter:?}, {fit:?}: {most} bytes");
        }
    }
}
