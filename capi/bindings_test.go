package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// version is what the header says.
func version(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "include", "netmon.h"))
	require.NoError(t, err)
	match := regexp.MustCompile(`(?m)^#define NETMON_VERSION "(.*)"$`).FindSubmatch(text)
	require.NotNil(t, match)
	return string(match[1])
}

// trees are installed trees as users have them: as build.sh makes it, and the same moved elsewhere, as a wheel's is.
func trees(t *testing.T) map[string]string {
	t.Helper()
	moved := filepath.Join(work, "moved", "site-packages", "netmon", "_native")
	if _, err := os.Stat(moved); err != nil {
		require.NoError(t, os.MkdirAll(filepath.Dir(moved), 0o755))
		run(t, "cp", "-R", prefix(t), moved)
	}
	return map[string]string{"built": prefix(t), "moved": moved}
}

func example(t *testing.T, language, file string) string {
	t.Helper()
	return filepath.Join(root(t), "bindings", "examples", language, file)
}

// checkExample runs an example and reads what it printed.
func checkExample(t *testing.T, program string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(run(t, program, "--samples", "3", "--interval", "0.05")), "\n")
	require.Len(t, lines, 7, "%s", lines)
	assert.Equal(t, "netmon "+version(t), lines[0])
	var sample struct {
		Schema   string
		Sequence int
	}
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &sample))
	assert.Equal(t, "netmon.sample/1", sample.Schema)
	assert.GreaterOrEqual(t, sample.Sequence, 2)
	for _, line := range lines[2:5] {
		assert.Regexp(t, `^sample \d+  receive (not known|[0-9.e+]+ bytes/s)  transmit .*TCP connections$`, line)
	}
	var stats struct {
		Metric string
		Count  int
	}
	require.NoError(t, json.Unmarshal([]byte(lines[5]), &stats))
	assert.Equal(t, "totals.receive_bytes_per_second", stats.Metric)
	assert.GreaterOrEqual(t, stats.Count, 1)
	var health struct{ Status string }
	require.NoError(t, json.Unmarshal([]byte(lines[6]), &health))
	assert.Contains(t, []string{"ok", "degraded"}, health.Status)
}

func TestBindings_pkgConfig(t *testing.T) {
	tool(t, "pkg-config")
	for name, tree := range trees(t) {
		t.Run(name, func(t *testing.T) {
			ask := func(option string) []string {
				r := try(t, []string{"PKG_CONFIG_PATH=" + filepath.Join(tree, "lib", "pkgconfig")}, "pkg-config", option, "netmon")
				require.Zero(t, r.status, r.output)
				return strings.Fields(r.output)
			}
			assert.Equal(t, []string{version(t)}, ask("--modversion"))
			flags := append(ask("--cflags"), ask("--libs")...)
			strict := []string{"-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wl,-rpath," + filepath.Join(tree, "lib")}
			c, cpp := filepath.Join(work, name+"_c"), filepath.Join(work, name+"_cpp")
			arguments := append([]string{"-std=gnu99", "-o", c, example(t, "c", "watch.c")}, strict...)
			run(t, cc(), append(arguments, flags...)...)
			checkExample(t, c)
			arguments = append([]string{"-std=c++17", "-Wconversion", "-Wshadow", "-o", cpp, example(t, "cpp", "watch.cpp")}, strict...)
			run(t, cxx(), append(arguments, flags...)...)
			checkExample(t, cpp)
			arguments = append([]string{"-std=gnu99", "-o", c + "_training", example(t, "c", "training.c")}, strict...)
			run(t, cc(), append(arguments, flags...)...)
			checkTraining(t, c+"_training")
			arguments = append([]string{"-std=c++17", "-Wconversion", "-Wshadow", "-pthread", "-o", cpp + "_evaluation",
				example(t, "cpp", "evaluation.cpp")}, strict...)
			run(t, cxx(), append(arguments, flags...)...)
			checkEvaluation(t, cpp+"_evaluation")
		})
	}
}

func TestBindings_cmake(t *testing.T) {
	cmake := tool(t, "cmake")
	for name, tree := range trees(t) {
		// The tree, and the folder that netmon.get_cmake_dir() names.
		for kind, path := range map[string]string{"prefix": tree, "folder": filepath.Join(tree, "lib", "cmake", "netmon")} {
			t.Run(name+"_"+kind, func(t *testing.T) {
				build := filepath.Join(work, "cmake", name, kind)
				run(t, cmake, "-S", filepath.Join(root(t), "bindings", "examples"), "-B", build, "-DCMAKE_PREFIX_PATH="+path,
					"-DCMAKE_C_COMPILER="+cc(), "-DCMAKE_CXX_COMPILER="+cxx())
				if kind == "folder" { // found there too, which one program of each language shows
					run(t, cmake, "--build", build, "--target", "watch_c", "watch_cpp")
				} else {
					run(t, cmake, "--build", build)
				}
				checkExample(t, filepath.Join(build, "watch_c"))
				checkExample(t, filepath.Join(build, "watch_cpp"))
				if kind == "prefix" {
					checkTraining(t, filepath.Join(build, "training"))
					checkEvaluation(t, filepath.Join(build, "evaluation"))
				}
			})
		}
	}
}

// Before 1.0 a minor number may break callers: find_package takes the same one only.
func TestBindings_cmakeVersions(t *testing.T) {
	cmake := tool(t, "cmake")
	parts := strings.Split(version(t), ".")
	require.Equal(t, "0", parts[0], "after 1.0 this table has to change")
	for wanted, found := range map[string]bool{
		"": true, "0": true, "0." + parts[1]: true, version(t): true, version(t) + " EXACT": true,
		"0.0": false, "0." + parts[1] + ".999": false, "0.999": false, "1": false, "1.0": false,
	} {
		t.Run(or(wanted, "any"), func(t *testing.T) {
			source := filepath.Join(work, "versions", or(strings.ReplaceAll(wanted, " ", "_"), "any"))
			require.NoError(t, os.MkdirAll(source, 0o755))
			project := "cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES C)\nfind_package(netmon " + wanted + " CONFIG)\n" +
				"if(netmon_FOUND)\n  message(STATUS \"found ${netmon_VERSION}\")\nendif()\n"
			require.NoError(t, os.WriteFile(filepath.Join(source, "CMakeLists.txt"), []byte(project), 0o644))
			output := run(t, cmake, "-S", source, "-B", filepath.Join(source, "build"), "-DCMAKE_PREFIX_PATH="+prefix(t))
			assert.Equal(t, found, strings.Contains(output, "found "+version(t)), output)
		})
	}
}

// compileCPP builds a C++ program of this folder.
func compileCPP(t *testing.T, source, name string, flags ...string) string {
	t.Helper()
	program := filepath.Join(work, name)
	arguments := append([]string{"-std=c++17", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-pthread",
		"-I" + filepath.Join(prefix(t), "include"), "-o", program, source}, flags...)
	run(t, cxx(), append(arguments, linked(t)...)...)
	return program
}

func TestBindings_wrapper(t *testing.T) {
	source := filepath.Join("testdata", "host", "wrapper.cpp")
	run(t, compileCPP(t, source, "wrapper"))
	run(t, compileCPP(t, source, "wrapper_sanitized", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))

	alone := filepath.Join(work, "alone.cpp")
	require.NoError(t, os.WriteFile(alone, []byte("#include <netmon.hpp>\n#include <netmon.hpp>\n"+
		"int main() { return netmon::Monitor::init() ? 0 : 1; }\n"), 0o644))
	for _, compiler := range []string{cxx(), "clang++"} {
		for _, flags := range [][]string{{"-std=c++17"}, {"-std=c++20"}, {"-std=c++17", "-fno-exceptions", "-fno-rtti"}} {
			t.Run(compiler+strings.Join(flags, ""), func(t *testing.T) {
				arguments := append([]string{"-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsyntax-only",
					"-I" + filepath.Join(prefix(t), "include"), alone}, flags...)
				run(t, tool(t, compiler), arguments...)
			})
		}
	}
}

// Leaks are found by LeakSanitizer, which AddressSanitizer brings; the library itself is the one that is shipped.
func TestSanitizers_leaks(t *testing.T) {
	leaks := []string{"ASAN_OPTIONS=detect_leaks=1"}
	for language, build := range map[string]func() string{
		"c": func() string {
			return compile(t, example(t, "c", "watch.c"), "watch_address", append(linked(t), "-fsanitize=address")...)
		},
		"cpp": func() string {
			return compileCPP(t, example(t, "cpp", "watch.cpp"), "watch_address_cpp", "-fsanitize=address")
		},
	} {
		t.Run(language, func(t *testing.T) {
			program := build()
			checkExample(t, program)
			r := try(t, leaks, program, "--samples", "1", "--interval", "0.05", "--leak")
			assert.False(t, r.hung)
			assert.NotZero(t, r.status, "the leak was not found:\n%s", r.output)
			assert.Contains(t, r.output, "ERROR: LeakSanitizer: detected memory leaks")
			assert.Regexp(t, `SUMMARY: AddressSanitizer: \d+ byte\(s\) leaked`, r.output)
		})
	}
}

// The harnesses lose no memory and misuse none.
func TestSanitizers_harnesses(t *testing.T) {
	sanitized := []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
	checkTraining(t, compile(t, example(t, "c", "training.c"), "training_address", append(linked(t), sanitized...)...))
	checkEvaluation(t, compileCPP(t, example(t, "cpp", "evaluation.cpp"), "evaluation_address", sanitized...))
}

// The hosts under sanitizers, against the library that is shipped.
func TestSanitizers_hosts(t *testing.T) {
	for _, kind := range []string{"address,undefined", "thread"} {
		t.Run(kind, func(t *testing.T) {
			runHosts(t, kind, kind, append(linked(t), "-fsanitize="+kind, "-fno-sanitize-recover=all"))
		})
	}
}

func runHosts(t *testing.T, kind, name string, flags []string) {
	t.Helper()
	t.Setenv("TSAN_OPTIONS", "atexit_sleep_ms=50") // usually a second for each program
	threads := compile(t, host("threads"), "threads_"+name, flags...)
	runCases(t, threads, "close 10", "close-at-once 10", "whole 30")
	collectives := compile(t, host("collectives"), "collectives_"+name, flags...)
	runCases(t, collectives, "arguments", "overflow", "producers 2000", "closed 5", "tellers 20000")
	if kind != "thread" { // which refuses threads in a forked child
		runCases(t, collectives, "pending")
	}
	cluster := compile(t, host("cluster"), "cluster_"+name, flags...)
	runCases(t, cluster, "arguments", "view", "closed 5")
	phases := compile(t, host("phases"), "phases_"+name, flags...)
	runCases(t, phases, "arguments", "account", "threads 400", "closed 5")
	handles := compile(t, host("handles"), "handles_"+name, flags...)
	runCases(t, handles, "limit", "crowd 2")
	if kind != "thread" {
		arguments := compile(t, host("arguments"), "arguments_"+name, flags...)
		runCases(t, arguments, "handle", "config", "job", "query", "size", "unknown")
	}
}

// The shim itself under sanitizers, with the real Go half behind it: a library made for that.
func TestSanitizers_shim(t *testing.T) {
	kinds := []string{"thread", "undefined"}
	if os.Getenv("NETMON_LONG") != "" {
		kinds = append(kinds, "address") // builds all of Go's C files and packages anew
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			folder := filepath.Join(work, "shim_"+kind)
			arguments := []string{"build", "-buildmode=c-shared", "-buildvcs=false", "-tags", "netgo,osusergo",
				"-o", filepath.Join(folder, "libnetmon.so")}
			command := exec.Command("go", append(arguments, ".")...)
			if kind == "address" {
				command = exec.Command("go", append(arguments, "-asan", ".")...)
			}
			// Go knows how to tell ThreadSanitizer of its own locks; of fences in C it says that it does not understand them.
			command.Env = append(os.Environ(), "CGO_CFLAGS=-g -O1 -Wno-tsan -fsanitize="+kind+" -fno-sanitize-recover=all",
				"CGO_LDFLAGS=-fsanitize="+kind, "CGO_ENABLED=1", "CC="+cc())
			if kind == "address" {
				command.Env = append(os.Environ(), "CGO_ENABLED=1", "CC="+cc())
			}
			text, err := command.CombinedOutput()
			require.NoError(t, err, "%s", text)
			runHosts(t, kind, "shim_"+kind, []string{"-L" + folder, "-lnetmon", "-Wl,-rpath," + folder, "-fsanitize=" + kind,
				"-fno-sanitize-recover=all"})
		})
	}
}

// codeBlocks are the blocks of a language in a document.
func codeBlocks(t *testing.T, path, language string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, match[1]+"\n")
	}
	require.NotEmpty(t, blocks, "%s has no %s", path, language)
	return blocks
}

// What docs/abi.md shows works, with nothing but the standard library of Python.
func TestDocs_ctypes(t *testing.T) {
	for _, block := range codeBlocks(t, filepath.Join(root(t), "docs", "abi.md"), "python") {
		script := filepath.Join(work, "documented.py")
		require.NoError(t, os.WriteFile(script, []byte(block), 0o644))
		output := run(t, python(), "-I", "-W", "error", script, library(t))
		assert.Regexp(t, `^netmon\.sample/1 sample 2 of \S+\nreceived since the start: (\d+|not known) bytes\n$`, output)
	}
}

// The programs in the introductions of the headers compile and run.
func TestDocs_headers(t *testing.T) {
	introduction := func(name string) string {
		text, err := os.ReadFile(filepath.Join(prefix(t), "include", name))
		require.NoError(t, err)
		var code []string
		for _, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "#ifndef") {
				break
			}
			if indented, found := strings.CutPrefix(line, "//     "); found {
				code = append(code, indented)
			}
		}
		require.Greater(t, len(code), 5)
		return strings.Join(code, "\n")
	}
	c := filepath.Join(work, "introduction.c")
	require.NoError(t, os.WriteFile(c, []byte("#include <netmon.h>\n#include <stdio.h>\nint main(void) {\n"+introduction("netmon.h")+
		"\nreturn 0;\n}\n"), 0o644))
	output := run(t, compile(t, c, "introduction_c", linked(t)...))
	assert.True(t, json.Valid([]byte(output)), output)

	cpp := filepath.Join(work, "introduction.cpp")
	require.NoError(t, os.WriteFile(cpp, []byte("#include <netmon.hpp>\n#include <iostream>\nint main() {\n"+introduction("netmon.hpp")+
		"\nreturn 0;\n}\n"), 0o644))
	output = run(t, compileCPP(t, cpp, "introduction_cpp"))
	assert.Contains(t, output, `{"schema":"netmon.sample/1"`)
}
