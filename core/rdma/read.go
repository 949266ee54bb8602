package rdma

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"netmon/core/kernelfs"
)

// Bounds of what is read, far above what machines have.
const (
	MostPorts = 256
	mostGIDs  = 1024 // indices looked at
	// MostListedGIDs is how many of a port's addresses are told.
	MostListedGIDs = 64
	// mostCounters is how many counters of a port are read.
	mostCounters = 60
)

// Reader reads RDMA ports. Not safe for concurrent use.
type Reader struct {
	// Now is the clock of Reading.At, nil for none.
	Now    func() time.Duration
	fs     kernelfs.FS
	buffer []byte
}

// New returns a reader of a tree.
func New(fs kernelfs.FS) *Reader { return &Reader{fs: fs} }

// Devices are the names of the devices there are, sorted.
//
// Errors: os.ErrNotExist where the kernel has no RDMA, errors.ErrUnsupported, and what else listing the folder says.
func (r *Reader) Devices() ([]string, error) { return r.fs.List(Path) }

// Ports describes the ports of devices, in that order. A device that vanishes meanwhile has none.
func (r *Reader) Ports(devices []string) (ports []*Port) {
	for _, device := range devices {
		folder := Path + "/" + device
		names, err := r.fs.List(folder + "/ports")
		if err != nil {
			continue
		}
		var numbers []int
		for _, name := range names {
			if n, err := strconv.ParseUint(name, 10, 16); err == nil {
				numbers = append(numbers, int(n))
			}
		}
		slices.Sort(numbers)
		driver := ParseDriver(r.read(folder + "/device/uevent"))
		for _, n := range numbers {
			if len(ports) == MostPorts {
				return ports
			}
			p := &Port{Device: strings.ToValidUTF8(device, "?"), Number: n, Driver: driver, folder: fmt.Sprintf("%s/ports/%d", folder, n)}
			r.describeCounters(p, folder, len(numbers) == 1)
			r.describeGIDs(p)
			r.describeInterface(p, folder, len(numbers) == 1)
			ports = append(ports, p)
		}
	}
	return ports
}

// read is a file's content, nothing where it cannot be read.
func (r *Reader) read(path string) []byte {
	text, err := r.fs.ReadAttribute(path, r.buffer)
	r.buffer = text
	if err != nil {
		return nil
	}
	return text
}

func (r *Reader) describeCounters(p *Port, device string, only bool) {
	standard, extended, hardware := p.folder+"/counters", p.folder+"/counters_ext", p.folder+"/hw_counters"
	list := func(folder string) []string {
		names, _ := r.fs.List(folder)
		return names
	}
	own, ext, hw := list(standard), list(extended), list(hardware)
	if len(hw) == 0 && only {
		// Some kernels show what the driver counts for the device only.
		hardware = device + "/hw_counters"
		hw = list(hardware)
	}
	files := make(map[string]counter)
	for _, name := range hw {
		if troubling(name) {
			files[name] = counter{path: hardware + "/" + name}
		}
	}
	for _, name := range own {
		if full := fullAt(name); full != 0 {
			files[name] = counter{path: standard + "/" + name, full: full}
		}
	}
	for name := range files {
		p.Names = append(p.Names, name)
	}
	slices.Sort(p.Names)
	p.Names = p.Names[:min(len(p.Names), mostCounters)]
	for _, name := range p.Names {
		p.counters = append(p.counters, files[name])
	}
	for direction := range p.Data {
		p.Data[direction] = p.data(direction, choice{standard, own}, choice{extended, ext}, choice{hardware, hw})
	}
}

// choice is a folder of counters.
type choice struct {
	folder string
	names  []string
}

// find returns those of the files that are there, if the first is.
func (c choice) find(full uint64, names ...string) (files []counter) {
	for i, name := range names {
		if slices.Contains(c.names, name) {
			files = append(files, counter{path: c.folder + "/" + name, full: full})
		} else if i == 0 {
			return nil
		}
	}
	return files
}

// data finds out how a direction's bytes are counted.
//
// port_rcv_data and port_xmit_data count "data octets, divided by 4" (Documentation/ABI/stable/sysfs-class-infiniband). The drivers
// divide: mlx5 and mlx4 (mad.c: ">> 2"), ocrdma (ocrdma_stats.c: "/4"), qib (words). hfi1 does not: it puts its count of flits there
// (mad.c, pma_get_opa_port_dctrs: C_DC_XMIT_FLITS), which hold 8 bytes each on Omni-Path. EFA, irdma, bnxt_re, erdma and newer
// mana have no such files, and count bytes among their hw_counters; rxe, hns and qedr count no bytes at all, siw nothing.
func (p *Port) data(direction int, standard, extended, hardware choice) Data {
	name := func(receive, transmit string) string {
		if direction == Receive {
			return receive
		}
		return transmit
	}
	const octets, words, flits = 1, 4, 8
	// Before Linux 4.5 the counters with 64 bits stood in a folder of their own.
	if files := extended.find(0, name("port_rcv_data_64", "port_xmit_data_64")); files != nil {
		return Data{Unit: words, files: files}
	}
	if files := standard.find(fullData, name("port_rcv_data", "port_xmit_data")); files != nil {
		if p.Driver == "hfi1" || p.Driver == "" && strings.HasPrefix(p.Device, "hfi1_") {
			return Data{Unit: flits, files: files}
		}
		return Data{Unit: words, files: files}
	}
	for _, files := range [][]counter{
		hardware.find(0, name("rx_bytes", "tx_bytes")),                                             // efa, bnxt_re, mana
		hardware.find(0, name("ip4InOctets", "ip4OutOctets"), name("ip6InOctets", "ip6OutOctets")), // irdma
		hardware.find(0, name("rx_bytes_cnt", "tx_bytes_cnt")),                                     // erdma
	} {
		if files != nil {
			return Data{Unit: octets, files: files}
		}
	}
	return Data{Missing: "the driver counts no bytes"}
}

func (r *Reader) describeGIDs(p *Port) {
	names, _ := r.fs.List(p.folder + "/gids")
	indices := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 16); err == nil {
			indices = append(indices, int(n))
		}
	}
	slices.Sort(indices)
	p.GIDs = []GID{}
	for _, index := range indices[:min(len(indices), mostGIDs)] {
		gid := parseGID(r.read(fmt.Sprintf("%s/gids/%d", p.folder, index)))
		if gid == "" {
			continue
		}
		p.GIDs = append(p.GIDs, GID{
			Index: index, GID: gid,
			Type:      word(r.read(fmt.Sprintf("%s/gid_attrs/types/%d", p.folder, index))),
			Interface: word(r.read(fmt.Sprintf("%s/gid_attrs/ndevs/%d", p.folder, index))),
		})
		if len(p.GIDs) == MostListedGIDs {
			break
		}
	}
}

// describeInterface finds the network interface of a port: that of its addresses (RoCE), else that of the same device with the
// same number (IPoIB), else the one that a software device was made on.
func (r *Reader) describeInterface(p *Port, device string, only bool) {
	for _, gid := range p.GIDs {
		if gid.Interface != "" {
			p.Interface = gid.Interface
			return
		}
	}
	names, _ := r.fs.List(device + "/device/net")
	if only && len(names) == 1 {
		p.Interface = strings.ToValidUTF8(names[0], "?")
		return
	}
	best := ""
	for _, name := range names {
		// Partitions of IPoIB are interfaces of the same port with longer names.
		if r.place(device+"/device/net/"+name) == p.Number-1 && (best == "" || len(name) < len(best)) {
			best = name
		}
	}
	if best == "" {
		best = word(r.read(device + "/parent"))
	}
	p.Interface = strings.ToValidUTF8(best, "?")
}

// place is an interface's port on its device, from 0; -1 where that is not known.
func (r *Reader) place(folder string) int {
	number := func(name string) int {
		n, err := strconv.ParseUint(strings.TrimSpace(string(r.read(folder+"/"+name))), 0, 16)
		if err != nil {
			return -1
		}
		return int(n)
	}
	// Some drivers tell it as dev_id only, and dev_port is 0 then.
	return max(number("dev_port"), number("dev_id"))
}

// Read reads a port. Counters of into are used again.
//
// Errors: what reading the port's state says; IsGone tells whether the port is no longer there.
func (r *Reader) Read(p *Port, into *Reading) error {
	state, err := r.fs.ReadAttribute(p.folder+"/state", r.buffer)
	if r.buffer = state; err != nil {
		return err
	}
	*into = Reading{State: ParseState(state), Counters: into.Counters[:0]}
	into.PhysicalState = ParseState(r.read(p.folder + "/phys_state"))
	into.LinkLayer = word(r.read(p.folder + "/link_layer"))
	into.readRate(p, r.read(p.folder+"/rate"))
	for direction := range into.Data {
		into.Data[direction] = r.sum(p.Data[direction].files)
	}
	if r.Now != nil {
		into.At = r.Now()
	}
	for i := range p.counters {
		into.Counters = append(into.Counters, r.sum(p.counters[i:i+1]))
	}
	return nil
}

func (into *Reading) readRate(p *Port, text []byte) {
	const hundred = 100_000_000_000
	switch into.RateBits = ParseRate(text); {
	case into.RateBits == 0:
		into.RateMissing = "the driver does not tell"
	case p.Driver == "efa" && into.RateBits == hundred:
		// efa_verbs.c, efa_query_port: the driver says 4X EDR whatever the device can do.
		into.RateBits, into.RateMissing = 0, "the driver efa says 100 Gb/sec of any device"
	}
}

var errNotCounted = errors.New("it is not counted")

// sum reads files and adds their counts.
func (r *Reader) sum(files []counter) (sum Count) {
	if len(files) == 0 {
		return Count{Err: errNotCounted}
	}
	for _, file := range files {
		text, err := r.fs.ReadAttribute(file.path, r.buffer)
		r.buffer = text
		var value uint64
		if err == nil {
			value, err = ParseCount(text)
		}
		switch {
		case err != nil:
		case file.full != 0 && value == file.full:
			err = ErrFull
		case sum.Value > math.MaxUint64-value:
			err = ErrNumber
		}
		if err != nil {
			return Count{Err: err}
		}
		sum.Value += value
	}
	return sum
}

// Absent tells whether an error of Devices means that there is no RDMA here, rather than that it could not be read.
func Absent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, errors.ErrUnsupported)
}
