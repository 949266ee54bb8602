package kernelfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// mostAttribute bounds what is read of one attribute: sysfs gives at most a page of 4096 bytes, some 65,536.
const mostAttribute = 64 << 10

// ReadAttribute reads a file of sysfs once, at a path below the root, into buf where it fits. Such a file may have a driver ask
// its device, and wait as long as that takes: other goroutines go on meanwhile, unlike in File.Read.
//
// Errors: what open(2) and read(2) say: of a device that vanished ENOENT or ENODEV, of a driver that does not know EINVAL or
// EOPNOTSUPP; ErrForeign.
func (fs FS) ReadAttribute(path string, buf []byte) ([]byte, error) {
	path = filepath.Join(fs.root, path)
	f, err := Open(path)
	if err != nil {
		return buf[:0], err
	}
	defer f.Close()
	if buf = buf[:0]; cap(buf) < minRoom {
		buf = make([]byte, 0, minRoom)
	}
	for len(buf) < mostAttribute {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, cap(buf))
		}
		n, err := unix.Read(f.fd, buf[len(buf):cap(buf)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return buf, fmt.Errorf("kernelfs: read %s: %w", path, f.explain(err))
		case n == 0:
			return buf, nil
		default:
			buf = buf[:len(buf)+n]
		}
	}
	return buf, nil
}

// mostNames bounds a folder's list.
const mostNames = 1 << 16

// List returns the names in a folder at a path below the root, sorted.
//
// Errors: what open(2) and getdents(2) say, ErrForeign, ErrTooLarge.
func (fs FS) List(path string) ([]string, error) {
	// Not os.ReadDir: os.File makes the Go runtime open descriptors for its poller (see clock.Waker).
	path = filepath.Join(fs.root, path)
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	buffer := make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(f.fd, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("kernelfs: list %s: %w", path, f.explain(err))
		case n <= 0:
			slices.Sort(names)
			return names, nil
		}
		if _, _, names = unix.ParseDirent(buffer[:n], -1, names); len(names) > mostNames {
			return nil, fmt.Errorf("kernelfs: list %s: %w", path, ErrTooLarge)
		}
	}
}
