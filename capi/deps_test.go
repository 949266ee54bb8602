package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rule is what a package of core may import beside the standard library and packages of lower layers.
type rule struct {
	layer int
	// beside are packages of the same layer and other modules, each with the reason.
	beside map[string]string
}

const (
	systemCalls = "system calls that package syscall does not have"
	documents   = "every JSON document is read and written by it"
	probes      = "what a probe is"
	prober      = "implements its Prober"
	stamps      = "kernel time stamps"
	results     = "the results of tools"
)

// layers is the table of core/doc.go: what may import what.
var layers = map[string]rule{
	"units":             {layer: 0},
	"clock":             {layer: 0, beside: map[string]string{"golang.org/x/sys/unix": systemCalls}},
	"kernelfs":          {layer: 0, beside: map[string]string{"golang.org/x/sys/unix": systemCalls}},
	"kernelfs/recorded": {layer: 0},
	"netdev":            {layer: 1},
	"snmp":              {layer: 1},
	"sockstat":          {layer: 1},
	"link":              {layer: 1, beside: map[string]string{"golang.org/x/sys/unix": systemCalls}},
	"route":             {layer: 1},
	"rdma":              {layer: 1},
	"pcie":              {layer: 1},
	"nvlink":            {layer: 1},
	"process":           {layer: 1, beside: map[string]string{"golang.org/x/sys/unix": systemCalls}},
	"tcpinfo": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/probe": "the mark of netmon's own sockets",
	}},
	"probe": {layer: 1},
	"probe/path": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/probe": probes, "netmon/core/probe/stamp": stamps,
	}},
	"probe/dns": {layer: 1, beside: map[string]string{
		"golang.org/x/net/dns/dnsmessage": "the format of messages",
		"golang.org/x/sys/unix":           systemCalls, "netmon/core/probe": probes, "netmon/core/probe/stamp": stamps,
	}},
	"probe/stamp": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/probe": "the errors of a probe",
	}},
	"probe/icmp": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/probe": prober, "netmon/core/probe/stamp": stamps,
		"github.com/prometheus-community/pro-bing": "ICMP echo where the system is not Linux",
	}},
	"probe/tcp": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/probe": prober, "netmon/core/probe/stamp": "addresses and ICMP errors",
	}},
	"probe/udp": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/probe": prober, "netmon/core/probe/stamp": "kernel time stamps",
	}},
	"tool": {layer: 1, beside: map[string]string{"golang.org/x/sys/unix": systemCalls}},
	"tool/iperf3": {layer: 1, beside: map[string]string{
		"github.com/goccy/go-json": documents, "netmon/core/tool": results,
	}},
	"tool/speedtest": {layer: 1, beside: map[string]string{
		"github.com/goccy/go-json": documents, "netmon/core/tool": results,
	}},
	"tool/throughput": {layer: 1, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls, "netmon/core/tool": results, "netmon/core/probe/stamp": "addresses, and the mark of netmon's sockets",
	}},
	"inventory": {layer: 1, beside: map[string]string{
		"github.com/shirou/gopsutil/v3/host": "host identity everywhere",
		"github.com/shirou/gopsutil/v3/net":  "interfaces and counters where the system is not Linux",
		"netmon/core/link":                   "fills its type where the system is not Linux",
		"netmon/core/netdev":                 "fills its type where the system is not Linux",
	}},
	"exercise": {layer: 2},
	"rate":     {layer: 2},
	"reach": {layer: 2, beside: map[string]string{
		"golang.org/x/sys/unix": systemCalls,
		"netmon/core/stats":     "quantiles are defined there",
	}},
	"peer":       {layer: 2},
	"stats":      {layer: 2},
	"job":        {layer: 3},
	"transport":  {layer: 3, beside: map[string]string{"netmon/core/job": "settings of the communication libraries"}},
	"collective": {layer: 3},
	"phase":      {layer: 3},
	"sample":     {layer: 3, beside: map[string]string{"github.com/goccy/go-json": documents}},
	"alert":      {layer: 4},
	"cluster":    {layer: 4},
	"diagnose":   {layer: 5},
	"monitor":    {layer: 6, beside: map[string]string{"github.com/goccy/go-json": documents}},
}

// denied are packages of the standard library that core must not import, with the packages that may.
var denied = map[string][]string{
	"C":         nil, // core builds with CGO_ENABLED=0
	"os/exec":   {"tool"},
	"log":       nil, // core prints nothing
	"log/slog":  nil,
	"flag":      nil,
	"plugin":    nil,
	"net/http":  nil,
	"os/signal": nil,
}

// environment are the functions that read or change the environment; job reads it.
var environment = []string{"os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv", "os.Setenv", "os.Unsetenv", "os.Clearenv",
	"syscall.Getenv", "syscall.Environ", "unix.Getenv", "unix.Environ"}

// output are the ways to print, and to end the process of the host.
var output = []string{"fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdout", "os.Stderr", "os.Exit", "syscall.Exit", "unix.Exit"}

// sourceFile is a Go file of core, tests aside.
type sourceFile struct {
	path    string // core/link/link.go
	name    string // of the package as in the table: link, probe/icmp
	imports []string
	syntax  *ast.File
}

// forTests is the package of core that only tests import: the rules do not hold for it, and no other package may import it,
// because it is not in the table.
const forTests = "nettest"

func coreFiles(t *testing.T) (files []sourceFile, set *token.FileSet) {
	t.Helper()
	set = token.NewFileSet()
	core := filepath.Join(root(t), "core")
	err := filepath.WalkDir(core, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == forTests {
			return filepath.SkipDir
		}
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		syntax, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root(t), path)
		if err != nil {
			return err
		}
		file := sourceFile{path: relative, syntax: syntax, name: strings.TrimPrefix(filepath.ToSlash(filepath.Dir(relative)), "core/")}
		for _, i := range syntax.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			file.imports = append(file.imports, imported)
		}
		files = append(files, file)
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(files), 20)
	return files, set
}

// The layers as documented are the layers as checked.
func TestDeps_documentation(t *testing.T) {
	file, err := os.Open(filepath.Join(root(t), "core", "doc.go"))
	require.NoError(t, err)
	defer file.Close()
	documented := make(map[string]int)
	line := regexp.MustCompile(`^//\tL(\d)\s+(\S+)\s+\S`)
	highest := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		match := line.FindStringSubmatch(scanner.Text())
		if match == nil {
			continue
		}
		layer, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		assert.GreaterOrEqual(t, layer, highest, "%s: lowest first", match[2])
		highest = layer
		documented[match[2]] = layer
	}
	table := make(map[string]int)
	for name, r := range layers {
		table[name] = r.layer
	}
	assert.Equal(t, table, documented, "core/doc.go and the table of this test differ")

	present := make(map[string]int)
	files, _ := coreFiles(t)
	for _, f := range files {
		if f.name != "core" {
			present[f.name] = layers[f.name].layer
		}
	}
	assert.Equal(t, table, present, "core has other packages")
}

func TestDeps_layers(t *testing.T) {
	files, _ := coreFiles(t)
	for _, f := range files {
		own, known := layers[f.name]
		if f.name == "core" {
			assert.Empty(t, f.imports, "%s is documentation", f.path)
			continue
		}
		require.True(t, known, "%s: package %s is not in the table", f.path, f.name)
		for _, imported := range f.imports {
			if allowed, is := denied[imported]; is {
				assert.True(t, slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(f.name, a) }),
					"%s imports %s", f.path, imported)
			}
			if _, excepted := own.beside[imported]; excepted {
				continue
			}
			inner, isCore := strings.CutPrefix(imported, "netmon/core/")
			switch {
			case isCore:
				lower, known := layers[inner]
				assert.True(t, known && lower.layer < own.layer, "%s (layer %d) imports %s (layer %d)", f.path, own.layer, imported, lower.layer)
			case strings.Contains(strings.Split(imported, "/")[0], "."), strings.HasPrefix(imported, "netmon"):
				assert.Fail(t, "not in the table", "%s imports %s", f.path, imported)
			}
		}
	}
}

// Exceptions that nothing needs any more have to go.
func TestDeps_exceptionsAreUsed(t *testing.T) {
	files, _ := coreFiles(t)
	for name, r := range layers {
		for imported := range r.beside {
			used := slices.ContainsFunc(files, func(f sourceFile) bool { return f.name == name && slices.Contains(f.imports, imported) })
			assert.True(t, used, "%s may import %s, and does not", name, imported)
		}
	}
}

func TestDeps_constructs(t *testing.T) {
	files, set := coreFiles(t)
	for _, f := range files {
		for _, declaration := range f.syntax.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				assert.False(t, d.Recv == nil && d.Name.Name == "init", "%v: an init function", set.Position(d.Pos()))
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					for _, spec := range d.Specs {
						checkVariable(t, set, spec.(*ast.ValueSpec))
					}
				}
			}
		}
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.SelectorExpr:
				if of, is := n.X.(*ast.Ident); is {
					used := of.Name + "." + n.Sel.Name
					assert.False(t, slices.Contains(environment, used) && f.name != "job", "%v: %s; only job reads the environment",
						set.Position(n.Pos()), used)
					assert.NotContains(t, output, used, "%v: core neither prints nor ends the process", set.Position(n.Pos()))
				}
			case *ast.CallExpr:
				if called, is := n.Fun.(*ast.Ident); is {
					assert.NotContains(t, []string{"print", "println"}, called.Name, "%v: core prints nothing", set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// checkVariable allows package variables that nobody changes: sentinel errors, and assertions that a type is an interface.
func checkVariable(t *testing.T, set *token.FileSet, spec *ast.ValueSpec) {
	t.Helper()
	for i, name := range spec.Names {
		if name.Name == "_" {
			continue
		}
		sentinel := false
		if i < len(spec.Values) {
			if call, is := spec.Values[i].(*ast.CallExpr); is {
				if function, is := call.Fun.(*ast.SelectorExpr); is {
					of, named := function.X.(*ast.Ident)
					sentinel = named && of.Name == "errors" && function.Sel.Name == "New"
				}
			}
		}
		assert.True(t, sentinel, "%v: variable %s of a package; hand it to a constructor, or make it a function or constant",
			set.Position(name.Pos()), name.Name)
	}
}

// A panic that nobody recovers ends the host, so each goroutine of core begins with somebody who does.
func TestDeps_goroutinesRecover(t *testing.T) {
	files, set := coreFiles(t)
	recovers := func(node ast.Node) (found bool) {
		ast.Inspect(node, func(n ast.Node) bool {
			if call, is := n.(*ast.CallExpr); is {
				if called, is := call.Fun.(*ast.Ident); is && called.Name == "recover" {
					found = true
				}
			}
			return !found
		})
		return found
	}
	nameOf := func(call *ast.CallExpr) string {
		switch f := call.Fun.(type) {
		case *ast.Ident:
			return f.Name
		case *ast.SelectorExpr:
			return f.Sel.Name
		}
		return ""
	}
	bodies := make(map[string]*ast.BlockStmt) // by package and name
	for _, f := range files {
		for _, declaration := range f.syntax.Decls {
			if d, is := declaration.(*ast.FuncDecl); is {
				bodies[f.name+"."+d.Name.Name] = d.Body
			}
		}
	}
	goroutines := 0
	for _, f := range files {
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			statement, is := node.(*ast.GoStmt)
			if !is {
				return true
			}
			goroutines++
			body := bodies[f.name+"."+nameOf(statement.Call)]
			if literal, is := statement.Call.Fun.(*ast.FuncLit); is {
				body = literal.Body
			}
			saved := false
			for i := 0; body != nil && i < len(body.List) && !saved; i++ {
				d, is := body.List[i].(*ast.DeferStmt)
				if !is {
					break
				}
				if literal, is := d.Call.Fun.(*ast.FuncLit); is {
					saved = recovers(literal.Body)
				} else if deferred := bodies[f.name+"."+nameOf(d.Call)]; deferred != nil {
					saved = recovers(deferred)
				}
			}
			assert.True(t, saved, "%v: the goroutine does not begin by deferring a recover", set.Position(statement.Pos()))
			return true
		})
	}
	assert.Positive(t, goroutines)
}

func TestDeps_onePackageComment(t *testing.T) {
	files, _ := coreFiles(t)
	comments := make(map[string][]string)
	for _, f := range files {
		comments[f.name] = append(comments[f.name], []string{}...)
		if f.syntax.Doc != nil {
			comments[f.name] = append(comments[f.name], f.path)
			text := f.syntax.Doc.Text()
			assert.True(t, strings.HasPrefix(text, "Package "+f.syntax.Name.Name+" "), "%s: the comment starts otherwise: %.60s", f.path, text)
			assert.Greater(t, len(text), 60, "%s: the package comment says too little", f.path)
		}
	}
	for name, paths := range comments {
		assert.Len(t, paths, 1, "package %s: one package comment", name)
	}
}

// The only cgo of the repository is in this folder.
func TestDeps_onlyHereIsC(t *testing.T) {
	with := 0
	err := filepath.WalkDir(root(t), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "build" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range syntax.Imports {
			if i.Path.Value == `"C"` {
				with++
				assert.Equal(t, filepath.Join(root(t), "capi"), filepath.Dir(path), "%s has import \"C\"", path)
			}
		}
		return nil
	})
	require.NoError(t, err)
	assert.Positive(t, with)
}

func TestDeps_buildsWithoutC(t *testing.T) {
	r := try(t, []string{"CGO_ENABLED=0"}, "go", "build", "../core/...")
	assert.Zero(t, r.status, r.output)
}

func TestDeps_otherSystems(t *testing.T) {
	for _, system := range []string{"darwin", "windows"} {
		t.Run(system, func(t *testing.T) {
			r := try(t, []string{"GOOS=" + system, "GOARCH=amd64", "CGO_ENABLED=0"}, "go", "vet", "../core/...")
			assert.Zero(t, r.status, r.output)
		})
	}
}

// Every module that go.mod names directly is used by core; a new one needs its reason in the table.
func TestDeps_modules(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	require.NoError(t, err)
	allowed := []string{"github.com/stretchr/testify", "github.com/prometheus/procfs"} // tests
	for _, r := range layers {
		for imported := range r.beside {
			allowed = append(allowed, imported)
		}
	}
	for _, match := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(text), -1) {
		used := slices.ContainsFunc(allowed, func(a string) bool { return a == match[1] || strings.HasPrefix(a, match[1]+"/") })
		assert.True(t, used, fmt.Sprintf("go.mod requires %s, which no package needs", match[1]))
	}
}
