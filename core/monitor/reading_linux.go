package monitor

import (
	"errors"
	"fmt"

	"netmon/core/inventory"
	"netmon/core/kernelfs"
	"netmon/core/link"
	"netmon/core/netdev"
	"netmon/core/route"
	"netmon/core/snmp"
	"netmon/core/sockstat"
)

// procReader reads the files of /proc/net on descriptors it keeps open: those of the network namespace that the thread which
// made it was in.
type procReader struct {
	fs                                             kernelfs.FS
	namespace                                      uint64
	dev, snmp, netstat, snmp6, sockstat, sockstat6 procFile
	table                                          netdev.Table
	parser                                         *snmp.Parser
	parses                                         uint64
	devBuffer, buffer                              []byte
}

type procFile struct {
	path string
	file *kernelfs.File
	err  error
}

func newReader(fs kernelfs.FS, sections Section) reader {
	r := &procReader{fs: fs, parser: snmp.NewParser()}
	r.namespace, _ = inventory.NetworkNamespace(fs)
	for _, source := range []struct {
		file     *procFile
		name     string
		sections Section
	}{
		{&r.dev, netdev.Path, Interfaces},
		{&r.snmp, snmp.PathSNMP, TCP | UDP | IP},
		{&r.netstat, snmp.PathNetstat, TCP},
		{&r.snmp6, snmp.PathSNMP6, UDP | IP},
		{&r.sockstat, sockstat.Path, Sockets},
		{&r.sockstat6, sockstat.Path6, Sockets},
	} {
		if sections&source.sections != 0 {
			source.file.path = fs.NetPath(source.name)
			source.file.file, source.file.err = kernelfs.Open(source.file.path)
		}
	}
	return r
}

func newLinkSource(fs kernelfs.FS) (LinkSource, error) {
	if !fs.Live() {
		return nil, errors.New("links are not recorded")
	}
	watcher, err := link.Watch(fs)
	if err != nil {
		return nil, err
	}
	return &linuxLinks{Watcher: watcher, defaults: route.Open(fs)}, nil
}

// linuxLinks joins the kernel's two ways of telling about links and routes.
type linuxLinks struct {
	*link.Watcher
	defaults *route.Defaults
}

func (l *linuxLinks) DefaultRoute() string { return l.defaults.Interface() }

func (l *linuxLinks) Close() {
	l.Watcher.Close()
	l.defaults.Close()
}

func (r *procReader) close() {
	for _, f := range []*procFile{&r.dev, &r.snmp, &r.netstat, &r.snmp6, &r.sockstat, &r.sockstat6} {
		if f.file != nil {
			f.file.Close()
			f.file, f.err = nil, errors.New("closed")
		}
	}
}

// load reads a file and parses its text. A file that is not open is opened first where that is allowed and the thread is in the
// right namespace. It returns the buffer to be passed in next time.
func (r *procReader) load(f *procFile, buffer []byte, retry bool, parse func([]byte) ([]byte, error)) ([]byte, error) {
	if f.file == nil && retry && r.here() {
		f.file, f.err = kernelfs.Open(f.path)
	}
	if f.file == nil {
		return buffer, f.err
	}
	text, err := f.file.Read(buffer)
	if err == nil {
		text, err = parse(text)
	}
	if err != nil && !f.file.Owned() {
		// The host process closed the descriptor, and may have opened something else under its number.
		f.file, f.err = nil, fmt.Errorf("%s: %w", f.path, kernelfs.ErrForeign)
		return text, f.err
	}
	return text, err
}

// here tells whether opening /proc/thread-self/net now leads to the namespace this reader watches.
func (r *procReader) here() bool {
	if !r.fs.Live() {
		return true
	}
	namespace, err := inventory.NetworkNamespace(r.fs)
	return err == nil && namespace == r.namespace
}

func (r *procReader) read(sections Section, retry bool, into *reading) {
	*into = reading{told: allTold()}
	if sections&Interfaces != 0 {
		r.devBuffer, into.interfacesErr = r.load(&r.dev, r.devBuffer, retry, func(text []byte) ([]byte, error) {
			r.parses++
			into.parse = r.parses
			return r.table.Parse(text)
		})
		if into.parse != 0 {
			into.interfaces = r.table.Rows
		}
	}
	table := func(path string) func([]byte) ([]byte, error) {
		return func(text []byte) ([]byte, error) { return text, r.parser.ParseTable(path, text, &into.protocols) }
	}
	if sections&(TCP|UDP|IP) != 0 {
		r.buffer, into.snmpErr = r.load(&r.snmp, r.buffer, retry, table(snmp.PathSNMP))
	}
	if sections&TCP != 0 {
		r.buffer, into.netstatErr = r.load(&r.netstat, r.buffer, retry, table(snmp.PathNetstat))
	}
	if sections&(UDP|IP) != 0 {
		r.buffer, into.snmp6Err = r.load(&r.snmp6, r.buffer, retry, func(text []byte) ([]byte, error) {
			return text, r.parser.ParseSNMP6(text, &into.protocols)
		})
	}
	gauges := func(path string) func([]byte) ([]byte, error) {
		return func(text []byte) ([]byte, error) { return text, sockstat.Parse(path, text, &into.sockets) }
	}
	if sections&Sockets != 0 {
		r.buffer, into.sockstatErr = r.load(&r.sockstat, r.buffer, retry, gauges(sockstat.Path))
		r.buffer, into.sockstat6Err = r.load(&r.sockstat6, r.buffer, retry, gauges(sockstat.Path6))
	}
}
