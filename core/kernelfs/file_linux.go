package kernelfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrForeign means that the descriptor of a File now belongs to something else: the host process closed it, as
// os.closerange does, and the number was used again.
var ErrForeign = errors.New("descriptor was closed by the host process")

// File is a kernel file kept open. It is not safe for concurrent use.
type File struct {
	path     string
	fd       int
	dev, ino uint64
}

// Open opens the file at path, with its descriptor closed on exec.
func Open(path string) (*File, error) {
	fd, err := openRetry(path)
	if err != nil {
		return nil, fmt.Errorf("kernelfs: open %s: %w", path, err)
	}
	dev, ino, err := Identity(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("kernelfs: stat %s: %w", path, err)
	}
	return &File{path: path, fd: fd, dev: dev, ino: ino}, nil
}

func openRetry(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Identity is the device and inode a descriptor refers to. It tells whether a number still means what it meant when it was
// opened: the host process may close any descriptor of its process.
func Identity(fd int) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	return st.Dev, st.Ino, nil
}

// Path is the path the file was opened with.
func (f *File) Path() string { return f.path }

// Read returns the whole file from its start, in buf where it fits, else in a larger slice to be passed in next time.
// It reads on until the kernel says there is no more: one read returns at most about a page.
//
// Errors: ErrTooLarge, ErrForeign, or what pread(2) says.
func (f *File) Read(buf []byte) ([]byte, error) {
	buf, err := f.ReadHead(buf, MaxFileBytes)
	if err == nil && len(buf) >= MaxFileBytes {
		err = fmt.Errorf("kernelfs: read %s: %w", f.path, ErrTooLarge)
	}
	return buf, err
}

// ReadHead is Read, stopping once it has at least most bytes.
func (f *File) ReadHead(buf []byte, most int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < most {
		if cap(buf)-len(buf) < minRoom {
			grown := make([]byte, len(buf), max(2*cap(buf), 4*minRoom))
			copy(grown, buf)
			buf = grown
		}
		n, err := unix.Pread(f.fd, buf[len(buf):cap(buf)], int64(len(buf)))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return buf, fmt.Errorf("kernelfs: read %s: %w", f.path, f.explain(err))
		case n == 0:
			return buf, nil
		default:
			buf = buf[:len(buf)+n]
		}
	}
	return buf, nil
}

// minRoom is the least room a read is given: a row of a kernel file is never split by a full buffer then.
const minRoom = 4096

func (f *File) explain(err error) error {
	if f.Owned() {
		return err
	}
	return ErrForeign
}

// Owned tells whether the descriptor still refers to the file that was opened.
func (f *File) Owned() bool {
	dev, ino, err := Identity(f.fd)
	return err == nil && dev == f.dev && ino == f.ino
}

// Close closes the descriptor, unless the host process did so before and its number now means something else.
func (f *File) Close() {
	if f.Owned() {
		unix.Close(f.fd)
	}
	f.fd = -1
}
