//! Plain values in data at any address: every allocation of bytes in this program has an odd address.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;

use messageport::{Message, MessageChannel};

struct Odd;

/// The layout of the allocation around a block of bytes: one more byte in front, for an odd address.
fn around(bytes: Layout) -> Option<Layout> {
    Layout::from_size_align(bytes.size().checked_add(1)?, 2).ok()
}

#[allow(unsafe_code)]
// SAFETY: a block of alignment 1 is the allocation of `around` without its first byte. Others are the system's own.
unsafe impl GlobalAlloc for Odd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match around(layout) {
            Some(around) if layout.align() == 1 => {
                // SAFETY: the size is at least 1.
                let start = unsafe { System.alloc(around) };
                if start.is_null() { start } else { start.wrapping_add(1) }
            }
            // SAFETY: as the caller upholds it.
            _ => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match around(layout) {
            // SAFETY: `alloc` made the block from an allocation of this layout, one byte before.
            Some(around) if layout.align() == 1 => unsafe { System.dealloc(block.wrapping_sub(1), around) },
            // SAFETY: as the caller upholds it.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }
}

#[global_allocator]
static ODD: Odd = Odd;

#[test]
fn plain_values_are_read_at_any_address() {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    port1.post_plain_slice(&[7_u64, 8]).unwrap();
    let message: Message = port2.recv().unwrap();
    assert_eq!(message.data.as_ptr().addr() % 2, 1);
    let values = message.plain_slice::<u64>().unwrap();
    assert!(matches!(values, Cow::Owned(_)), "a slice of u64 at an odd address");
    assert_eq!(*values, [7, 8]);
    assert_eq!(message.plain::<[u64; 2]>(), Ok([7, 8]));
    assert!(matches!(message.plain_slice::<[u8; 8]>(), Ok(Cow::Borrowed([_, _]))));
}
