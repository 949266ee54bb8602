package kernelfs

import (
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a kernel file kept open. It is not safe for concurrent use.
type File struct {
	Descriptor
	path string
}

// Open opens the file at path, with its descriptor closed on exec.
func Open(path string) (*File, error) {
	fd, err := openRetry(path)
	if err != nil {
		return nil, fmt.Errorf("kernelfs: open %s: %w", path, err)
	}
	descriptor, err := Own(fd)
	if err != nil {
		return nil, fmt.Errorf("kernelfs: stat %s: %w", path, err)
	}
	return &File{Descriptor: descriptor, path: path}, nil
}

func openRetry(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Path is the path the file was opened with.
func (f *File) Path() string { return f.path }

// Read returns the whole file from its start, in buf where it fits, else in a larger slice to be passed in next time.
// It reads on until the kernel says there is no more: one read returns at most about a page.
//
// Errors: ErrTooLarge, ErrForeign, or what pread(2) says.
func (f *File) Read(buf []byte) ([]byte, error) {
	return f.whole(f.read(buf, MaxFileBytes, false))
}

// ReadRecord is Read for a file that the kernel writes as one record, all of which one read returns (single_open in its
// seq_file.c): a read that leaves room has reached the end, and none is spent on being told so.
func (f *File) ReadRecord(buf []byte) ([]byte, error) {
	return f.whole(f.read(buf, MaxFileBytes, true))
}

func (f *File) whole(buf []byte, err error) ([]byte, error) {
	if err == nil && len(buf) >= MaxFileBytes {
		err = fmt.Errorf("kernelfs: read %s: %w", f.path, ErrTooLarge)
	}
	return buf, err
}

// ReadHead is Read, stopping once it has at least most bytes.
func (f *File) ReadHead(buf []byte, most int) ([]byte, error) {
	return f.read(buf, most, false)
}

func (f *File) read(buf []byte, most int, record bool) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < most {
		if cap(buf)-len(buf) < minRoom {
			grown := make([]byte, len(buf), max(2*cap(buf), 4*minRoom))
			copy(grown, buf)
			buf = grown
		}
		n, err := pread(f.fd, buf[len(buf):cap(buf)], len(buf))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return buf, fmt.Errorf("kernelfs: read %s: %w", f.path, f.explain(err))
		case n == 0:
			return buf, nil
		default:
			buf = buf[:len(buf)+n]
			if record && len(buf) < cap(buf) && buf[len(buf)-1] == '\n' {
				return buf, nil
			}
		}
	}
	return buf, nil
}

// pread is pread(2) that the Go scheduler does not hear of. Kernel files answer in microseconds and never wait for anything, but
// the scheduler counts a system call of 20 µs as long, and then wakes a second thread to go on meanwhile: that costs more than the
// call.
func pread(fd int, p []byte, offset int) (n int, err error) {
	if bits.UintSize < 64 {
		return unix.Pread(fd, p, int64(offset)) // passes the offset in two registers there
	}
	read, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		uintptr(offset), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(read), nil
}

// minRoom is the least room a read is given: a row of a kernel file is never split by a full buffer then.
const minRoom = 4096

func (f *File) explain(err error) error {
	if f.Owned() {
		return err
	}
	return ErrForeign
}
