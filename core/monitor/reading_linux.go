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
}

type procFile struct {
	path     string
	sections Section // that it is read for
	record   bool    // written by the kernel in one piece
	file     *kernelfs.File
	err      error
	text     []byte // as read last
}

func (r *procReader) files() [6]*procFile {
	return [...]*procFile{&r.dev, &r.snmp, &r.netstat, &r.snmp6, &r.sockstat, &r.sockstat6}
}

// newReader opens what the sections need. A file that cannot be opened is tried again with every sample of the loop; it is an
// error when no descriptor was left for any of them.
func newReader(fs kernelfs.FS, sections Section) (reader, error) {
	r := &procReader{fs: fs, parser: snmp.NewParser()}
	r.namespace, _ = inventory.NetworkNamespace(fs)
	r.dev = procFile{path: netdev.Path, sections: Interfaces}
	r.snmp = procFile{path: snmp.PathSNMP, sections: TCP | UDP | IP | segments, record: true}
	r.netstat = procFile{path: snmp.PathNetstat, sections: TCP, record: true}
	r.snmp6 = procFile{path: snmp.PathSNMP6, sections: UDP | IP, record: true}
	r.sockstat = procFile{path: sockstat.Path, sections: Sockets, record: true}
	r.sockstat6 = procFile{path: sockstat.Path6, sections: Sockets, record: true}
	var exhausted error
	opened := false
	for _, f := range r.files() {
		if sections&f.sections != 0 {
			f.path = fs.NetPath(f.path)
			f.file, f.err = kernelfs.Open(f.path)
			opened = opened || f.err == nil
			if isExhausted(f.err) {
				exhausted = f.err
			}
		}
	}
	if !opened && exhausted != nil {
		return nil, exhausted
	}
	return r, nil
}

func newLinkSource(fs kernelfs.FS) (LinkSource, error) {
	if !fs.Live() {
		return nil, errors.New("links are not recorded")
	}
	watcher, err := link.Watch(fs)
	if err != nil {
		return nil, err
	}
	// Without these files, as where the kernel has no IPv6, there are no such routes; but they are not tried again.
	defaults, err := route.Open(fs)
	links := &linuxLinks{Watcher: watcher, defaults: defaults}
	if isExhausted(err) {
		links.Close()
		return nil, err
	}
	return links, nil
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
	for _, f := range r.files() {
		if f.file != nil {
			f.file.Close()
			f.file, f.err = nil, errors.New("closed")
		}
	}
}

// readFile reads a file that is open, and opens it first where that is allowed and the thread is in the right namespace.
func (r *procReader) readFile(f *procFile, retry bool) {
	if f.file == nil && retry && r.here() {
		f.file, f.err = kernelfs.Open(f.path)
	}
	if f.file == nil {
		return
	}
	if f.record {
		f.text, f.err = f.file.ReadRecord(f.text)
	} else {
		f.text, f.err = f.file.Read(f.text)
	}
	if f.err != nil && !f.file.Owned() {
		_ = f.disown()
	}
}

// here tells whether opening /proc/thread-self/net now leads to the namespace this reader watches.
func (r *procReader) here() bool {
	if !r.fs.Live() {
		return true
	}
	namespace, err := inventory.NetworkNamespace(r.fs)
	return err == nil && namespace == r.namespace
}

// read reads all files before it parses any, so that their counters are of one moment as nearly as can be; and the kernel's code
// stays in the caches, which makes it a tenth faster.
func (r *procReader) read(sections Section, retry bool, into *reading) {
	*into = reading{told: allTold()}
	for _, f := range r.files() {
		if sections&f.sections != 0 {
			r.readFile(f, retry)
		}
	}
	parse := func(f *procFile, parse func() error) error {
		if sections&f.sections == 0 || f.err != nil {
			return f.err
		}
		err := parse()
		if err != nil && !f.file.Owned() {
			err = f.disown()
		}
		return err
	}
	into.interfacesErr = parse(&r.dev, func() (err error) {
		r.parses++
		r.dev.text, err = r.table.Parse(r.dev.text)
		into.interfaces, into.parse = r.table.Rows, r.parses
		return err
	})
	into.snmpErr = parse(&r.snmp, func() error {
		return r.parser.ParseTable(snmp.PathSNMP, r.snmp.text, &into.protocols)
	})
	into.netstatErr = parse(&r.netstat, func() error {
		return r.parser.ParseTable(snmp.PathNetstat, r.netstat.text, &into.protocols)
	})
	into.snmp6Err = parse(&r.snmp6, func() error { return r.parser.ParseSNMP6(r.snmp6.text, &into.protocols) })
	into.sockstatErr = parse(&r.sockstat, func() error {
		return sockstat.Parse(sockstat.Path, r.sockstat.text, &into.sockets)
	})
	into.sockstat6Err = parse(&r.sockstat6, func() error {
		return sockstat.Parse(sockstat.Path6, r.sockstat6.text, &into.sockets)
	})
}

// disown forgets a descriptor that the host process closed; something else may have been opened under its number.
func (f *procFile) disown() error {
	f.file, f.err = nil, fmt.Errorf("%s: %w", f.path, kernelfs.ErrForeign)
	return f.err
}
