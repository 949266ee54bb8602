package reach

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
	"netmon/core/probe"
)

// bell waits for descriptors with ppoll(2), and is rung by other goroutines to end the waiting.
//
// It is a pipe and not an eventfd: those have no inode of their own, so nobody could tell one from an eventfd that the host
// process opened under its number after closing it.
type bell struct {
	mu          sync.Mutex // guards what follows; never held while waiting
	read, write kernelfs.Descriptor
	isOpen      bool
	rung        bool

	polled []unix.PollFd // the waiting goroutine's own
}

// blindly bounds the waiting where nothing can wake it, because no descriptor is left.
const blindly = 50 * time.Millisecond

func (b *bell) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return
	}
	var readErr, writeErr error
	b.read, readErr = kernelfs.Own(ends[0])
	b.write, writeErr = kernelfs.Own(ends[1])
	if b.isOpen = readErr == nil && writeErr == nil; !b.isOpen {
		b.read.Close()
		b.write.Close()
	}
}

func (b *bell) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isOpen {
		b.read.Close()
		b.write.Close()
	}
	b.isOpen = false
}

// ring ends the current wait, or the next one at once.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung = true
	if b.isOpen && b.write.Owned() {
		_, _ = unix.Write(b.write.Number(), []byte{1}) // a full pipe wakes as well
	}
}

// ready empties the bell and returns what to wait for; rung tells that there is no need to.
func (b *bell) ready() (fd int, rung bool) {
	b.mu.Lock()
	if b.isOpen && !(b.read.Owned() && b.write.Owned()) {
		b.read.Close()
		b.write.Close()
		b.isOpen = false
	}
	if !b.isOpen {
		b.mu.Unlock()
		b.open()
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	rung, b.rung = b.rung, false
	if !b.isOpen {
		return -1, rung
	}
	if rung {
		var bytes [64]byte
		for {
			if n, err := unix.Read(b.read.Number(), bytes[:]); n < len(bytes) || err != nil {
				break
			}
		}
	}
	return b.read.Number(), rung
}

// wait implements poller.
func (b *bell) wait(descriptors []probe.Descriptor, most time.Duration) {
	fd, rung := b.ready()
	b.polled = b.polled[:0]
	if fd >= 0 {
		b.polled = append(b.polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	} else {
		most = min(most, blindly)
	}
	for _, d := range descriptors {
		events := int16(unix.POLLIN)
		if d.Write {
			events = unix.POLLOUT
		}
		b.polled = append(b.polled, unix.PollFd{Fd: int32(d.FD), Events: events})
	}
	if rung || most < 0 {
		most = 0
	}
	ts := unix.NsecToTimespec(int64(most))
	// EINTR and the like mean: look at the clock again.
	_, _ = unix.Ppoll(b.polled, &ts, nil)
}
