package nettest

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"netmon/core/tool"
)

// Spawn starts programs for tests of core, in the namespace of the calling thread. Programs that leave their session are not killed;
// that of the library does so.
func Spawn(p tool.Program) (tool.Running, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(p.Path, p.Arguments, &syscall.ProcAttr{
		Env: p.Environment, Files: []uintptr{null.Fd(), uintptr(p.Output), uintptr(p.Errors)},
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	var failed syscall.Errno
	if errors.As(err, &failed) {
		return program{failed: failed}, nil
	}
	return program{pid: pid}, err
}

type program struct {
	pid    int
	failed error
}

// Ended implements tool.Running.
func (p program) Ended() (tool.Exit, bool) {
	if p.failed != nil {
		return tool.Exit{Err: p.failed, Status: -1}, true
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil && info.Signo == 0 {
		return tool.Exit{}, false
	}
	p.Kill()
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.pid, &status, 0, nil); err != nil {
		return tool.Exit{Status: -1}, true
	}
	if status.Signaled() {
		return tool.Exit{Status: -1, Signal: int(status.Signal())}, true
	}
	return tool.Exit{Status: status.ExitStatus()}, true
}

// Kill implements tool.Running.
func (p program) Kill() { _ = unix.Kill(-p.pid, unix.SIGKILL) }
