package main

import (
	"crypto/sha256"
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openLibrary(t *testing.T) *elf.File {
	t.Helper()
	file, err := elf.Open(library(t))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

func dynamic(t *testing.T, file *elf.File, tag elf.DynTag) []uint64 {
	t.Helper()
	values, err := file.DynValue(tag)
	require.NoError(t, err)
	return values
}

func TestLibrary_elf(t *testing.T) {
	file := openLibrary(t)
	names, err := file.DynString(elf.DT_SONAME)
	require.NoError(t, err)
	assert.Equal(t, []string{"libnetmon.so"}, names, "wheels hold no links: the name is that of the file")

	needed, err := file.ImportedLibraries()
	require.NoError(t, err)
	for _, name := range needed {
		assert.Contains(t, []string{"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}, name)
	}
	assert.Contains(t, needed, "libpthread.so.0", "before glibc 2.34 a host need not be linked with it")
	assert.Contains(t, needed, "libdl.so.2", "before glibc 2.34 a host need not be linked with it")

	assert.Empty(t, dynamic(t, file, elf.DT_TEXTREL))
	assert.Empty(t, dynamic(t, file, elf.DT_RPATH))
	assert.Empty(t, dynamic(t, file, elf.DT_RUNPATH))
	flags := append(dynamic(t, file, elf.DT_FLAGS), 0)[0]
	assert.Zero(t, flags&uint64(elf.DF_TEXTREL), "text relocations")
	assert.NotZero(t, flags&uint64(elf.DF_BIND_NOW), "lazy binding: netmon_latest could enter the dynamic loader")
	flags1 := append(dynamic(t, file, elf.DT_FLAGS_1), 0)[0]
	assert.NotZero(t, flags1&uint64(elf.DF_1_NODELETE), "dlclose would unmap running code")

	var relro, stack bool
	for _, p := range file.Progs {
		switch p.Type {
		case elf.PT_TLS:
			assert.EqualValues(t, 8, p.Memsz, "thread-local memory comes out of a small reserve of the C library")
		case elf.PT_GNU_RELRO:
			relro = true
		case elf.PT_GNU_STACK:
			stack = true
			assert.Zero(t, p.Flags&elf.PF_X, "executable stack")
		case elf.PT_LOAD:
			assert.NotEqual(t, elf.PF_W|elf.PF_X, p.Flags&(elf.PF_W|elf.PF_X), "memory that is writable and executable")
		}
	}
	assert.True(t, relro, "no RELRO")
	assert.True(t, stack, "nothing says that the stack is not executable")

	for _, section := range file.Sections {
		assert.NotEqual(t, elf.SHT_SYMTAB, section.Type, "not stripped")
		assert.False(t, strings.HasPrefix(section.Name, ".debug"), "not stripped: %s", section.Name)
	}
	info, err := os.Stat(library(t))
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(12<<20), "a wheel has to stay below 8 MB")
}

// glibc 2.28 is what the wheel's tag promises.
func TestLibrary_symbolVersions(t *testing.T) {
	imported, err := openLibrary(t).ImportedSymbols()
	require.NoError(t, err)
	require.NotEmpty(t, imported)
	versions := 0
	for _, s := range imported {
		version, found := strings.CutPrefix(s.Version, "GLIBC_")
		if !found {
			assert.Empty(t, s.Version, s.Name)
			continue
		}
		versions++
		parts := strings.Split(version, ".")
		major, err := strconv.Atoi(parts[0])
		require.NoError(t, err)
		minor, err := strconv.Atoi(parts[1])
		require.NoError(t, err)
		assert.True(t, major == 2 && minor <= 28, "%s needs %s", s.Name, s.Version)
	}
	assert.Greater(t, versions, 20)
}

// No path of the machine that built it, and nothing that a host would not expect in it.
func TestLibrary_noPaths(t *testing.T) {
	data, err := os.ReadFile(library(t))
	require.NoError(t, err)
	for _, path := range []string{root(t), work, os.Getenv("HOME") + "/"} {
		if len(path) > 2 {
			assert.NotContains(t, string(data), path)
		}
	}
}

func TestHeader_compiles(t *testing.T) {
	include := "-I" + filepath.Join(prefix(t), "include")
	strict := []string{"-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", include}
	source := filepath.Join(work, "alone.c")
	require.NoError(t, os.WriteFile(source, []byte("#include <netmon.h>\n#include <netmon.h>\nint main(void) { return NETMON_OK; }\n"), 0o644))
	for _, test := range []struct{ compiler, language string }{{cc(), "c"}, {"clang", "c"}, {cxx(), "c++"}, {"clang++", "c++"}} {
		for _, standard := range map[string][]string{"c": {"c99", "c11", "c17"}, "c++": {"c++11", "c++17", "c++20"}}[test.language] {
			t.Run(test.compiler+"_"+standard, func(t *testing.T) {
				arguments := append([]string{"-x", test.language, "-std=" + standard}, strict...)
				if test.language == "c" {
					arguments = append(arguments, "-Wstrict-prototypes")
				}
				run(t, tool(t, test.compiler), append(arguments, source)...)
			})
		}
	}
}

func TestShim_compilesWithoutWarnings(t *testing.T) {
	files, err := filepath.Glob("*.c")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, compiler := range []string{cc(), "clang"} {
		t.Run(compiler, func(t *testing.T) {
			path := tool(t, compiler)
			for _, file := range files {
				run(t, path, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes",
					"-Werror", "-include", "glibc_compat.h", "-c", "-o", filepath.Join(work, "shim.o"), file)
			}
		})
	}
}

// copyTree copies what build.sh needs.
func copyTree(t *testing.T, to string) {
	t.Helper()
	for _, name := range []string{"bindings", "build.sh", "capi", "core", "go.mod", "go.sum", "include"} {
		from := filepath.Join(root(t), name)
		err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root(t), path)
			if err != nil {
				return err
			}
			target := filepath.Join(to, relative)
			if entry.IsDir() {
				return os.MkdirAll(target, 0o755)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			return os.WriteFile(target, data, info.Mode().Perm())
		})
		require.NoError(t, err)
	}
}

func TestLibrary_reproducible(t *testing.T) {
	sum := func(path string) [32]byte {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return sha256.Sum256(data)
	}
	var sums [][32]byte
	for _, name := range []string{"one", "another/folder with a longer name, ünd spaces"} {
		source := filepath.Join(work, name, "netmon")
		copyTree(t, source)
		out := filepath.Join(source, "build")
		require.NoError(t, buildLibrary(source, out))
		sums = append(sums, sum(filepath.Join(out, "lib", "libnetmon.so")))
	}
	assert.Equal(t, sums[0], sums[1], "two builds from two folders differ")
	if os.Getenv("NETMON_PREFIX") == "" {
		assert.Equal(t, sums[0], sum(library(t)), "the build in place differs")
	}
}
