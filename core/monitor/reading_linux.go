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

// readFile reads a file that is open, and opens it first where that is allowed and the thread is in the right namespace.
func (r *procReader) readFile(f *procFile, buffer []byte, retry bool) ([]byte, error) {
	if f.file == nil && retry && r.here() {
		f.file, f.err = kernelfs.Open(f.path)
	}
	if f.file == nil {
		return buffer[:0], f.err
	}
	text, err := f.file.Read(buffer)
	if err != nil && !f.file.Owned() {
		f.file, f.err = nil, fmt.Errorf("%s: %w", f.path, kernelfs.ErrForeign)
		return text[:0], f.err
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
		r.readInterfaces(retry, into)
	}
	if sections&(TCP|UDP|IP) != 0 {
		var text []byte
		if text, into.snmpErr = r.readFile(&r.snmp, r.buffer, retry); into.snmpErr == nil {
			into.snmpErr = r.parser.ParseTable(snmp.PathSNMP, text, &into.protocols)
		}
		r.buffer = text
	}
	if sections&TCP != 0 {
		var text []byte
		if text, into.netstatErr = r.readFile(&r.netstat, r.buffer, retry); into.netstatErr == nil {
			into.netstatErr = r.parser.ParseTable(snmp.PathNetstat, text, &into.protocols)
		}
		r.buffer = text
	}
	if sections&(UDP|IP) != 0 {
		var text []byte
		if text, into.snmp6Err = r.readFile(&r.snmp6, r.buffer, retry); into.snmp6Err == nil {
			into.snmp6Err = r.parser.ParseSNMP6(text, &into.protocols)
		}
		r.buffer = text
	}
	if sections&Sockets != 0 {
		var text []byte
		if text, into.sockstatErr = r.readFile(&r.sockstat, r.buffer, retry); into.sockstatErr == nil {
			into.sockstatErr = sockstat.Parse(sockstat.Path, text, &into.sockets)
		}
		if text, into.sockstat6Err = r.readFile(&r.sockstat6, text, retry); into.sockstat6Err == nil {
			into.sockstat6Err = sockstat.Parse(sockstat.Path6, text, &into.sockets)
		}
		r.buffer = text
	}
}

func (r *procReader) readInterfaces(retry bool, into *reading) {
	text, err := r.readFile(&r.dev, r.devBuffer, retry)
	if err != nil {
		r.devBuffer, into.interfacesErr = text, err
		return
	}
	r.parses++
	r.devBuffer, into.interfacesErr = r.table.Parse(text)
	into.interfaces, into.parse = r.table.Rows, r.parses
}
