package reach

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

const namespacePath = "/proc/thread-self/ns/net"

// namespace is a network namespace that threads can be moved to.
type namespace struct {
	kept     kernelfs.Descriptor
	dev, ino uint64 // 0: not known
}

// thisNamespace is that of the calling thread. Where there is no /proc nothing can be told apart.
func thisNamespace() (*namespace, error) {
	n := &namespace{}
	fd, err := openNamespace()
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return nil, fmt.Errorf("open %s: %w", namespacePath, err)
	}
	if err == nil {
		if n.dev, n.ino, err = kernelfs.Identity(fd); err == nil {
			n.kept, err = kernelfs.Own(fd)
		}
	}
	if err != nil {
		n.dev, n.ino = 0, 0
	}
	return n, nil
}

func openNamespace() (int, error) {
	for {
		fd, err := unix.Open(namespacePath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// enter moves the calling thread there. Where it moved it, leave moves it back.
func (n *namespace) enter() (leave func(), err error) {
	if n.ino == 0 {
		return nil, nil
	}
	fd, err := openNamespace()
	if err != nil {
		return nil, fmt.Errorf("probes: the network namespace of the thread is not known: %w", err)
	}
	if dev, ino, err := kernelfs.Identity(fd); err == nil && dev == n.dev && ino == n.ino {
		unix.Close(fd)
		return nil, nil
	}
	before, err := kernelfs.Own(fd)
	if err == nil && !n.kept.Owned() {
		err = kernelfs.ErrForeign
	}
	if err == nil {
		err = unix.Setns(n.kept.Number(), unix.CLONE_NEWNET)
	}
	if err != nil {
		before.Close()
		return nil, fmt.Errorf("probes: no thread gets into the network namespace that is measured: setns(2): %w", err)
	}
	return func() {
		if before.Owned() {
			_ = unix.Setns(before.Number(), unix.CLONE_NEWNET)
		}
		before.Close()
	}, nil
}

func (n *namespace) close() { n.kept.Close() }
