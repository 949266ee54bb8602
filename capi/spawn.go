package main

/*
#include "shim.h"
*/
import "C"

import (
	"strings"
	"syscall"
	"unsafe"

	tools "netmon/core/tool"
)

// running is a program that spawn.c has started.
type running struct{ program *C.netmon_running }

// spawn implements tool.Spawn.
func spawn(p tools.Program) (tools.Running, error) {
	var words []byte
	for _, word := range append(append([]string{p.Path}, p.Arguments...), p.Environment...) {
		if strings.IndexByte(word, 0) >= 0 {
			return nil, syscall.EINVAL
		}
		words = append(append(words, word...), 0)
	}
	var r running
	errno := C.netmon_spawn((*C.char)(unsafe.Pointer(&words[0])), C.size_t(len(words)), C.uint32_t(len(p.Arguments)),
		C.uint32_t(len(p.Environment)), C.int(p.Output), C.int(p.Errors), &r.program)
	if errno != 0 {
		return nil, syscall.Errno(errno)
	}
	return &r, nil
}

// Ended implements tool.Running.
func (r *running) Ended() (exit tools.Exit, ended bool) {
	var errno, status C.int
	if C.netmon_spawn_ended(r.program, &errno, &status) == 0 {
		return exit, false
	}
	r.program = nil
	switch {
	case errno != 0:
		exit = tools.Exit{Err: syscall.Errno(errno), Status: -1}
	case status == C.NETMON_NO_STATUS:
		exit.Status = -1
	case status < 0:
		exit = tools.Exit{Status: -1, Signal: int(-status)}
	default:
		exit.Status = int(status)
	}
	return exit, true
}

// Kill implements tool.Running.
func (r *running) Kill() {
	if r.program != nil {
		C.netmon_spawn_kill(r.program)
	}
}
