package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// runCases runs cases of a program of testdata/host, each in a process of its own. A case is its name and arguments.
func runCases(t *testing.T, program string, cases ...string) {
	t.Helper()
	for _, words := range cases {
		t.Run(strings.ReplaceAll(words, " ", "_"), func(t *testing.T) {
			if output := strings.TrimSpace(run(t, program, strings.Fields(words)...)); output != "" {
				t.Log(output)
			}
		})
	}
}

// loading adds the library's path to cases of programs that load it.
func loading(t *testing.T, program string, cases ...string) {
	t.Helper()
	path := library(t)
	for _, words := range cases {
		name, rest, _ := strings.Cut(words, " ")
		t.Run(strings.ReplaceAll(words, " ", "_"), func(t *testing.T) {
			arguments := append([]string{name, path}, strings.Fields(rest)...)
			if output := strings.TrimSpace(run(t, program, arguments...)); output != "" {
				t.Log(output)
			}
		})
	}
}

func host(name string) string { return filepath.Join("testdata", "host", name+".c") }

func TestHost_arguments(t *testing.T) {
	program := compile(t, host("arguments"), "arguments", linked(t)...)
	runCases(t, program, "versions", "handle", "config", "job", "query", "probe", "bandwidth", "size", "unknown")
}

func TestHost_handles(t *testing.T) {
	program := compile(t, host("handles"), "handles", linked(t)...)
	runCases(t, program, "limit", "crowd "+times(6), "reuse "+times(5000))
	t.Run("descriptors", func(t *testing.T) {
		run(t, "bash", "-c", "ulimit -n 100 && exec "+program+" descriptors")
	})
}

func TestHost_threads(t *testing.T) {
	program := compile(t, host("threads"), "threads", linked(t)...)
	runCases(t, program, "close "+times(100), "close-probing "+times(30), "close-at-once "+times(50), "whole "+times(150), "no-system-call",
		"frozen "+times(100), "short-lived "+times(2000))
}

func TestHost_collectives(t *testing.T) {
	program := compile(t, host("collectives"), "collectives", linked(t)...)
	runCases(t, program, "arguments", "account", "overflow", "producers "+times(20000), "closed "+times(30), "no-system-call", "forked",
		"pending", "tellers "+times(100000))
}

func TestHost_cluster(t *testing.T) {
	program := compile(t, host("cluster"), "cluster", linked(t)...)
	runCases(t, program, "arguments", "view", "closed "+times(30), "forked")
}

func TestHost_signals(t *testing.T) {
	program := compile(t, host("signals"), "signals")
	loading(t, program, "probing", "pipe default", "pipe ignored", "pipe handled", "mask none", "mask some", "mask all", "threads-mask",
		"handlers before", "handlers after", "stack", "storm before "+times(1500), "storm after "+times(1500),
		"fault before", "fault after", "latest "+times(500), "install "+times(1000))
}

func TestHost_programs(t *testing.T) {
	program := compile(t, host("programs"), "programs", linked(t)...)
	runCases(t, program, "fakes", "ignored", "inherits", "unwanted", "killed", "many "+times(200))
}

func TestHost_fork(t *testing.T) {
	program := compile(t, host("fork"), "fork")
	for _, way := range []string{"fork", "_Fork", "clone"} {
		loading(t, program, "everything "+way+" quiet "+times(100), "everything "+way+" busy "+times(100),
			"everything "+way+" loading "+times(100), "nested "+way+" 4 "+times(25), "latest "+way)
	}
	loading(t, program, "mixed", "together "+times(20), "refused", "file deleted", "file replaced", "file rewritten",
		"file moved", "no-wipe", "locked", "namespaces", "exit "+times(20))
}
