package main

import (
	"debug/elf"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/monitor"
)

var update = flag.Bool("update", false, "write testdata/abi.golden anew; review it as a diff")

// header is what include/netmon.h declares, in its order.
type header struct {
	constants []string // names of numbers
	functions []string // whole prototypes
	structs   []structType
}

type structType struct {
	name   string
	fields []field
}

type field struct{ kind, name string }

func readHeader(t *testing.T) header {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "include", "netmon.h"))
	require.NoError(t, err)
	source := regexp.MustCompile(`//[^\n]*`).ReplaceAllString(string(text), "")
	var h header
	for _, match := range regexp.MustCompile(`(?m)^#define (NETMON_\w+)[ \t]+([^\s"].*)$`).FindAllStringSubmatch(source, -1) {
		if match[1] != "NETMON_API" {
			h.constants = append(h.constants, match[1])
		}
	}
	for _, match := range regexp.MustCompile(`(?m)^NETMON_API ([^;]+);`).FindAllStringSubmatch(source, -1) {
		h.functions = append(h.functions, strings.Join(strings.Fields(match[1]), " "))
	}
	for _, match := range regexp.MustCompile(`(?s)typedef struct (\w+) \{(.*?)\} (\w+);`).FindAllStringSubmatch(source, -1) {
		require.Equal(t, match[1], match[3])
		s := structType{name: match[1]}
		for _, line := range regexp.MustCompile(`(\w+) (\w+);`).FindAllStringSubmatch(match[2], -1) {
			s.fields = append(s.fields, field{line[1], line[2]})
		}
		h.structs = append(h.structs, s)
	}
	require.NotEmpty(t, h.constants)
	require.NotEmpty(t, h.functions)
	require.NotEmpty(t, h.structs)
	return h
}

// layout lets a compiler tell the values of constants, and sizes and offsets of structs, a line each.
func layout(t *testing.T, h header, compiler, standard, suffix string) []string {
	t.Helper()
	var c strings.Builder
	c.WriteString("#include <netmon.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n")
	for _, name := range h.constants {
		fmt.Fprintf(&c, `  if ((%[1]s) > 0) printf("constant %[1]s %%llu\n", (unsigned long long)(%[1]s));`+"\n"+
			`  else printf("constant %[1]s %%lld\n", (long long)(%[1]s));`+"\n", name)
	}
	c.WriteString(`  printf("type netmon_handle size %u\n", (unsigned)sizeof(netmon_handle));` + "\n")
	for _, s := range h.structs {
		fmt.Fprintf(&c, `  printf("struct %[1]s size %%u\n", (unsigned)sizeof(%[1]s));`+"\n", s.name)
		for _, f := range s.fields {
			fmt.Fprintf(&c, `  printf("field %[1]s.%[2]s offset %%u size %%u %[3]s\n", (unsigned)offsetof(%[1]s, %[2]s), `+
				`(unsigned)sizeof(((%[1]s *)0)->%[2]s));`+"\n", s.name, f.name, f.kind)
		}
	}
	c.WriteString("  return 0;\n}\n")
	source := filepath.Join(work, "layout"+suffix)
	require.NoError(t, os.WriteFile(source, []byte(c.String()), 0o644))
	program := source + ".out"
	run(t, compiler, standard, "-Wall", "-Wextra", "-Werror", "-I"+filepath.Join(root(t), "include"), "-o", program, source)
	return strings.Split(strings.TrimSpace(run(t, program)), "\n")
}

// symbols are those that the library exports, with their version.
func symbols(t *testing.T) []string {
	t.Helper()
	file, err := elf.Open(library(t))
	require.NoError(t, err)
	defer file.Close()
	all, err := file.DynamicSymbols()
	require.NoError(t, err)
	var names []string
	for _, s := range all {
		if s.Section != elf.SHN_UNDEF {
			names = append(names, fmt.Sprintf("symbol %s %s", s.Name, s.Version))
		}
	}
	slices.Sort(names)
	return names
}

func TestABI_golden(t *testing.T) {
	h := readHeader(t)
	lines := layout(t, h, cc(), "-std=c99", ".c")
	assert.Equal(t, lines, layout(t, h, cxx(), "-std=c++17", ".cpp"), "C and C++ see another layout")
	for _, prototype := range h.functions {
		lines = append(lines, "function "+prototype)
	}
	lines = append(lines, symbols(t)...)
	got := strings.Join(lines, "\n") + "\n"

	path := filepath.Join("testdata", "abi.golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "the ABI changed: add, never change (docs/abi.md); then go test ./capi -run ABI -update")
}

func TestABI_everyFunctionIsExported(t *testing.T) {
	want := []string{"symbol NETMON_1 NETMON_1"} // the version itself
	for _, prototype := range readHeader(t).functions {
		name := regexp.MustCompile(`netmon_\w+\(`).FindString(prototype)
		want = append(want, "symbol "+strings.TrimSuffix(name, "(")+" NETMON_1")
	}
	slices.Sort(want)
	got := symbols(t)
	for i := range got {
		if got[i] == "symbol NETMON_1 " {
			got[i] += "NETMON_1"
		}
	}
	slices.Sort(got)
	assert.Equal(t, want, got)
}

// The Go half names every field of netmon_snapshot when it publishes one, so a field that is missing there would be zero
// instead of unknown.
func TestABI_goSnapshot(t *testing.T) {
	plain := func(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }
	var want []string
	for _, f := range readHeader(t).structs[0].fields {
		if f.name != "struct_size" && f.name != "reserved" {
			want = append(want, plain(f.name)+" "+map[string]string{"uint64_t": "uint64", "double": "float64"}[f.kind])
		}
	}
	var got []string
	snapshot := reflect.TypeOf(monitor.Snapshot{})
	for i := range snapshot.NumField() {
		name := strings.ReplaceAll(snapshot.Field(i).Name, "Nanoseconds", "Ns")
		got = append(got, plain(name)+" "+snapshot.Field(i).Type.String())
	}
	assert.Equal(t, want, got)

	source, err := os.ReadFile("exports.go")
	require.NoError(t, err)
	_, body, found := strings.Cut(string(source), "C.netmon_snapshot{")
	require.True(t, found)
	for _, f := range readHeader(t).structs[0].fields {
		if f.name != "struct_size" && f.name != "reserved" {
			assert.Contains(t, body, "\t"+f.name+":", "publish leaves %s out", f.name)
		}
	}
}

// python/netmon/_abi.py is the only mirror of the header in Python.
const describeMirror = `
import ctypes, json, struct, sys
sys.path.insert(0, sys.argv[1])
from netmon import _abi, _errors, _phase, _types
names = {ctypes.c_int32: "int32_t", ctypes.c_uint64: "netmon_handle", ctypes.c_char_p: "const char *", None: "void",
         ctypes.c_void_p: "pointer", ctypes.POINTER(ctypes.c_uint64): "netmon_handle *",
         ctypes.POINTER(ctypes.c_void_p): "char **", ctypes.c_uint32: "uint32_t",
         ctypes.POINTER(ctypes.c_uint32): "uint32_t *"}
s = _abi.SnapshotStruct
print(json.dumps({
    "functions": {name: [names[result], *(names[a] for a in arguments)] for name, (result, arguments) in _abi.PROTOTYPES.items()},
    "size": ctypes.sizeof(s),
    "fields": [[name.lstrip("_"), getattr(s, name).offset, getattr(s, name).size, kind.__name__] for name, kind in s._fields_],
    "collective": [[name, struct.calcsize("=" + "".join(code for _, code in _abi.COLLECTIVE_FIELDS[:i])), struct.calcsize("=" + code)]
                   for i, (name, code) in enumerate(_abi.COLLECTIVE_FIELDS)],
    "phase": [[name, getattr(_abi.PhaseStruct, name).offset, getattr(_abi.PhaseStruct, name).size, kind.__name__]
              for name, kind in _abi.PhaseStruct._fields_],
    "run": [f for f in dir(_phase.PhaseRun) if not f.startswith("_")],
    "public": [f for f in dir(_types.Snapshot) if not f.startswith("_") and f != "struct_size"],
    "constants": {"NETMON_ABI_VERSION": _abi.ABI_VERSION, "NETMON_OK": _abi.OK, "NETMON_ERR_CLOSED": _abi.CLOSED,
                  "NETMON_UNKNOWN_U64": str(_abi.UNKNOWN_U64), "NETMON_DIGEST_BYTES": _abi.DIGEST_BYTES,
                  **{"NETMON_COLLECTIVE_" + name.upper(): value for name, value in _abi.COLLECTIVES.items()},
                  **{"NETMON_END_" + name.upper(): value for name, value in _abi.ENDS.items()},
                  **{"NETMON_VERDICT_" + (name or "unknown").upper().replace("-", "_"): value
                     for value, name in enumerate(_abi.VERDICTS)}},
    "statuses": sorted(status for status in _errors._BY_STATUS),
}))`

func TestABI_python(t *testing.T) {
	h := readHeader(t)
	var mirror struct {
		Functions  map[string][]string
		Size       int
		Fields     [][]any
		Collective [][]any
		Phase      [][]any
		Run        []string
		Public     []string
		Constants  map[string]any
		Statuses   []int
	}
	output := run(t, python(), "-c", describeMirror, filepath.Join(root(t), "python"))
	require.NoError(t, json.Unmarshal([]byte(output), &mirror))

	want := make(map[string][]string)
	for _, prototype := range h.functions {
		match := regexp.MustCompile(`^(.*?)(netmon_\w+)\((.*)\)$`).FindStringSubmatch(prototype)
		require.NotNil(t, match, prototype)
		kinds := []string{strings.TrimSpace(match[1])}
		if match[3] != "void" {
			for _, parameter := range strings.Split(match[3], ", ") {
				kinds = append(kinds, strings.TrimSpace(regexp.MustCompile(`\w+$`).ReplaceAllString(parameter, "")))
			}
		}
		// In ctypes a text that has to be freed, and a struct that is handed over by address, are pointers to nothing.
		for i := 1; i < len(kinds); i++ {
			if kinds[i] == "char *" || kinds[i] == "netmon_snapshot *" || kinds[i] == "netmon_phase *" {
				kinds[i] = "pointer"
			}
			if kinds[i] == "void *" { // a buffer
				kinds[i] = "pointer"
			}
			kinds[i] = strings.ReplaceAll(kinds[i], "uint64_t", "netmon_handle") // which is one
			if kinds[i] == "const netmon_collective *" {                         // packed records are bytes
				kinds[i] = "const char *"
			}
		}
		want[match[2]] = kinds
	}
	assert.Equal(t, want, mirror.Functions)

	var fields, collective, phase [][]any
	ctypes := map[string]string{"uint32_t": "c_uint", "uint64_t": "c_ulong", "double": "c_double"}
	size := 0
	var statuses []int
	constants := make(map[string]string)
	for _, line := range layout(t, h, cc(), "-std=c99", ".mirror.c") {
		var name, kind string
		var offset, bytes int
		switch {
		case strings.HasPrefix(line, "field netmon_collective."):
			_, err := fmt.Sscanf(line, "field netmon_collective.%s offset %d size %d", &name, &offset, &bytes)
			require.NoError(t, err, line)
			collective = append(collective, []any{name, float64(offset), float64(bytes)})
		case strings.HasPrefix(line, "field netmon_phase."):
			_, err := fmt.Sscanf(line, "field netmon_phase.%s offset %d size %d %s", &name, &offset, &bytes, &kind)
			require.NoError(t, err, line)
			phase = append(phase, []any{name, float64(offset), float64(bytes), ctypes[kind]})
		case strings.HasPrefix(line, "field "):
			_, err := fmt.Sscanf(line, "field netmon_snapshot.%s offset %d size %d %s", &name, &offset, &bytes, &kind)
			require.NoError(t, err, line)
			fields = append(fields, []any{name, float64(offset), float64(bytes), ctypes[kind]})
		case strings.HasPrefix(line, "struct netmon_snapshot "):
			_, err := fmt.Sscanf(line, "struct netmon_snapshot size %d", &size)
			require.NoError(t, err, line)
		case strings.HasPrefix(line, "constant "):
			words := strings.Fields(line)
			constants[words[1]] = words[2]
			if strings.HasPrefix(words[1], "NETMON_ERR_") {
				var status int
				fmt.Sscan(words[2], &status)
				statuses = append(statuses, status)
			}
		}
	}
	assert.Equal(t, size, mirror.Size)
	assert.Equal(t, fields, mirror.Fields)
	assert.Equal(t, collective, mirror.Collective)
	assert.Equal(t, phase, mirror.Phase)
	for _, f := range phase[2:] {
		assert.Contains(t, mirror.Run, strings.ReplaceAll(f[0].(string), "duration_ns", "seconds"), "netmon.PhaseRun has no %s", f[0])
	}
	for name, value := range mirror.Constants {
		assert.Equal(t, constants[name], fmt.Sprint(value), name)
	}
	slices.Sort(statuses)
	assert.Equal(t, statuses, mirror.Statuses, "netmon._errors has another set of statuses")
	for _, f := range h.structs[0].fields {
		if f.name != "struct_size" && f.name != "reserved" {
			assert.Contains(t, mirror.Public, f.name, "netmon.Snapshot has no %s", f.name)
		}
	}
}
