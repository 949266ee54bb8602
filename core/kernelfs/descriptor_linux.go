package kernelfs

import "golang.org/x/sys/unix"

// Descriptor is a descriptor that knows whether its number still means what it meant when it was opened: the host process may
// close any descriptor of its process, as os.closerange does, and open a file or a connection of its own under the number. Ask
// Owned before each use, or bytes get into the host's file or are taken out of its connection. The zero value owns nothing.
// It is not safe for concurrent use.
type Descriptor struct {
	fd       int
	dev, ino uint64
}

// Own takes a descriptor over. On an error it is closed.
func Own(fd int) (Descriptor, error) {
	dev, ino, err := Identity(fd)
	if err != nil {
		unix.Close(fd)
		return Descriptor{fd: -1}, err
	}
	return Descriptor{fd: fd, dev: dev, ino: ino}, nil
}

// Identity is the device and inode a descriptor refers to.
func Identity(fd int) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	return st.Dev, st.Ino, nil
}

// Number is the descriptor's number, -1 once it is closed.
func (d *Descriptor) Number() int { return d.fd }

// Owned tells whether the number still refers to what was opened.
func (d *Descriptor) Owned() bool {
	if d.fd < 0 {
		return false
	}
	dev, ino, err := Identity(d.fd)
	return err == nil && dev == d.dev && ino == d.ino
}

// Close closes the descriptor, unless the host process did so before and its number now means something else.
func (d *Descriptor) Close() {
	if d.Owned() {
		unix.Close(d.fd)
	}
	d.fd = -1
}
