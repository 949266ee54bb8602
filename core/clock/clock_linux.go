package clock

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// monotonicNow reads CLOCK_MONOTONIC (clock_gettime(2)), which the Go runtime counts with too.
func monotonicNow() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// ThreadCPU is the CPU time the calling thread has used, user and system; ok is false where the kernel does not tell.
// Source: CLOCK_THREAD_CPUTIME_ID (clock_gettime(2)). The caller must hold its thread (runtime.LockOSThread) between two
// readings that it subtracts.
func ThreadCPU() (cpu time.Duration, ok bool) {
	var ts unix.Timespec
	// It never waits, so the scheduler need not hear of it.
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}

const (
	futexWaitPrivate = 0 | 128 // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	futexWakePrivate = 1 | 128 // FUTEX_WAKE | FUTEX_PRIVATE_FLAG
)

// Waker lets one goroutine wait for a time that any other goroutine may cut short.
//
// It is a futex (futex(2)) and not a Go timer or channel: timers make the Go runtime open epoll and eventfd descriptors,
// whose closing by the host process would abort that process, and cost more CPU per wake-up.
type Waker struct{ wakes atomic.Uint32 }

// Wait returns after d, or earlier when Wake was called since the last Wait returned. Only one goroutine may wait at a time.
func (w *Waker) Wait(d time.Duration) {
	if w.wakes.Swap(0) != 0 || d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	// EAGAIN (woken before we slept), EINTR and ETIMEDOUT all mean: look at the clock again.
	syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&w.wakes)), futexWaitPrivate, 0,
		uintptr(unsafe.Pointer(&ts)), 0, 0)
	w.wakes.Store(0)
}

// Wake ends the current Wait, or the next one at once.
func (w *Waker) Wake() {
	w.wakes.Store(1)
	syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&w.wakes)), futexWakePrivate, 1, 0, 0, 0)
}

// Sleep blocks the calling goroutine for d without a Go timer.
func Sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}
