//! A message of 64 bytes allocates nothing, from post to receive; and where there is no memory for a message, it stays
//! queued.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{null, null_mut};

use messageport_ffi::*;

/// An allocator that counts the allocations of each thread, and can refuse large ones.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Allocations of more than 4 KiB that are still granted.
    static GRANTED: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// True if an allocation is refused.
fn refuses(size: usize) -> bool {
    let granted = GRANTED.get();
    if size > 4 << 10 {
        GRANTED.set(granted.saturating_sub(1));
    }
    size > 4 << 10 && granted == 0
}

// SAFETY: hands everything on to the system's allocator, or fails, as any request may.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        if refuses(layout.size()) {
            return null_mut();
        }
        // SAFETY: what the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        if refuses(size) {
            return null_mut();
        }
        // SAFETY: what the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of allocations in a call.
fn count(call: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    call();
    COUNT.get() - before
}

#[test]
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
fn none_for_a_message() {
    let data = [7_u8; 64];
    let (mut a, mut b, mut message) = (null_mut(), null_mut(), null_mut());
    // SAFETY: as the header demands; everything is used by this thread alone.
    unsafe {
        assert!(count(|| assert_eq!(msgport_channel_new(null(), &mut a, &mut b), OK)) > 0, "the counter counts");
        assert_eq!(msgport_message_new(&mut message), OK);
        let post = || assert_eq!(msgport_port_post_message(a, data.as_ptr().cast(), 64, null(), 0, 0), OK);
        let recv_into = || assert_eq!(msgport_port_recv_into(b, -1, message, null_mut(), null_mut()), OK);
        post();
        recv_into(); // the message's memory grows once
        for _ in 0..10_000 {
            assert_eq!(count(post), 0);
            assert_eq!(count(recv_into), 0);
            assert_eq!(count(|| assert_eq!(msgport_port_recv_into(b, 0, message, null_mut(), null_mut()), EMPTY)), 0);
        }
        // In place.
        for _ in 0..10_000 {
            let (mut place, mut seen, mut len) = (null_mut(), null(), 0);
            assert_eq!(count(|| assert_eq!(msgport_port_reserve(a, 64, &mut place), OK)), 0);
            assert_eq!(count(|| assert_eq!(msgport_port_commit(a, 64), OK)), 0);
            assert_eq!(count(|| assert_eq!(msgport_port_recv_ref(b, 0, null_mut(), &mut seen, &mut len), OK)), 0);
            assert_eq!(count(|| assert_eq!(msgport_port_release(b), OK)), 0);
        }
        // A queue that is full.
        while msgport_port_post_message(a, data.as_ptr().cast(), 64, null(), 0, 0) == OK {}
        assert_eq!(count(|| assert_eq!(msgport_port_post_message(a, data.as_ptr().cast(), 64, null(), 0, 0), FULL)), 0);
        msgport_port_free(a);
        msgport_port_free(b);
        msgport_message_free(message);
    }
}

#[test]
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
fn none_that_cannot_fail_for_a_large_message() {
    const THINGS: usize = 100;
    let data = vec![7_u8; 20_000];
    let (mut a, mut b, mut message) = (null_mut(), null_mut(), null_mut());
    // SAFETY: as the header demands; everything is used by this thread alone.
    unsafe {
        assert_eq!(msgport_channel_new(null(), &mut a, &mut b), OK);
        assert_eq!(msgport_message_new(&mut message), OK);
        let items: Vec<Item> = (0..THINGS)
            .map(|index| {
                let mut shared = null_mut();
                assert_eq!(msgport_shared_new(index, &mut shared), OK);
                Item { kind: ItemKind::Shared as u32, reserved: 0, of: ItemOf { handle: shared.cast() } }
            })
            .collect();
        let post = msgport_port_post_message(a, data.as_ptr().cast(), data.len(), items.as_ptr(), THINGS, 0);
        assert_eq!(post, OK);
        items.iter().for_each(|item| msgport_shared_free(item.of.handle.cast()));
        // With memory for none, one, two and more large things, until it suffices.
        let mut granted = 0;
        loop {
            GRANTED.set(granted);
            let code = msgport_port_recv_into(b, 0, message, null_mut(), null_mut());
            GRANTED.set(u64::MAX);
            if code == OK {
                break;
            }
            assert_eq!(code, RESOURCE_EXHAUSTED);
            granted += 1;
        }
        assert!(granted > 0, "no large allocation");
        // Everything is there, and is taken in any order, once.
        let shared = ItemKind::Shared as u32;
        let mut item = Item { kind: 0, reserved: 0, of: ItemOf { handle: null_mut() } };
        for index in (0..THINGS).step_by(2).chain((1..THINGS).step_by(2).rev()) {
            assert_eq!(msgport_message_take(message, shared, index, &mut item), OK);
            let (mut bytes, mut len) = (null_mut(), 0);
            assert_eq!(msgport_shared_data(item.of.handle.cast(), &mut bytes, &mut len), OK);
            assert_eq!(len, index);
            msgport_shared_free(item.of.handle.cast());
            assert_eq!(msgport_message_take(message, shared, index, &mut item), TAKEN);
        }
        let mut count = 0;
        assert_eq!(msgport_message_count(message, shared, &mut count), OK);
        assert_eq!(count, THINGS);
        assert_eq!(msgport_message_take(message, shared, THINGS, &mut item), OUT_OF_RANGE);
        msgport_port_free(a);
        msgport_port_free(b);
        msgport_message_free(message);
    }
}
