// Package rdma reads the ports of RDMA devices: InfiniBand, RoCE, EFA, Omni-Path and their kin.
//
// Source: /sys/class/infiniband (Documentation/ABI/stable/sysfs-class-infiniband; drivers/infiniband/core/sysfs.c of Linux 6.12).
// Needs no privilege. It is the sysfs that is mounted: in a container that sees the host's sysfs, the host's devices. Files of one
// port are read one after the other, each a question to the device's firmware with many drivers, so reading may wait; it does not
// belong on a path that must not. What is counted is the port's, whoever moved it. No totals, no rates.
//
// Tested on recorded and on documented trees only, never beside the hardware.
package rdma

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"netmon/core/kernelfs"
)

// Path is the folder of the devices, below the root.
const Path = "sys/class/infiniband"

// Directions of Port.Data and Reading.Data.
const (
	Receive = iota
	Transmit
	directions
)

// Port is what hardly ever changes of a port.
type Port struct {
	Device    string
	Number    int
	Driver    string // of the device behind it ("mlx5_core"), "" where there is none or it is not known
	Interface string // the network interface of the same port, "" for none
	GIDs      []GID  // those that are not zero
	Data      [directions]Data
	Names     []string // of the counters that mean trouble, sorted

	folder   string // of the port
	counters []counter
}

// GID is an address of a port.
type GID struct {
	Index     int
	GID       string // as the kernel writes it: fe80:0000:0000:0000:946d:ae03:0012:3456
	Type      string // "IB/RoCE v1", "RoCE v2"; "" where the kernel does not tell
	Interface string // that it belongs to, of RoCE
}

// Data says how the bytes of one direction are counted.
type Data struct {
	Unit    uint64 // bytes that one count stands for; 0 where they are not counted
	Missing string // why not

	files []counter // their counts are added
}

// counter is a file with a counter.
type counter struct {
	path string
	full uint64 // where it stays when it is reached; 0: it goes on
}

// Reading is what a port said at one moment. Texts are empty, and the rate 0, where they are not known.
type Reading struct {
	LinkLayer     string // InfiniBand, Ethernet, Unspecified
	State         string // active, down, init, armed, active_defer
	PhysicalState string // link_up, disabled, polling...
	RateBits      uint64 // bits per second
	RateMissing   string // why RateBits is not known
	Data          [directions]Count
	Counters      []Count // in the order of Port.Names
	// At is when Data was read. The counters come after it, each a question to the device, so a rate by the end of the whole reading
	// would be wrong where one of them is slow.
	At time.Duration
}

// Count is the value of a counter, or why it is not known.
type Count struct {
	Value uint64
	Err   error
}

// Why a counter that is there is not known.
var (
	// ErrFull means that a counter reached its highest value. It stays there until somebody resets it.
	ErrFull = errors.New("the counter is full, and stands still until it is reset")
	// ErrNoPMA is what kernels before 4.5 say of ports without performance counters.
	ErrNoPMA = errors.New("the port has no performance counters (no PMA)")
	// ErrNumber means that a file holds no counter.
	ErrNumber = errors.New("it is not a number")
)

// Reason is an error in words that are the same for all files.
func Reason(err error) string {
	for _, known := range []error{ErrFull, ErrNoPMA, ErrNumber, kernelfs.ErrForeign} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return "the kernel cannot read it: " + number.Error()
	}
	return err.Error()
}

// IsGone tells whether an error means that the device is no longer there.
func IsGone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) }

// fullAt is where the counters of the folder "counters" end. They are fields of the PortCounters attribute of the InfiniBand
// specification, which "shall stop" at their maximum; the kernel shows them by these widths (drivers/infiniband/core/sysfs.c,
// PORT_PMA_ATTR). All of them but the four of data and packets mean trouble. 0 for other names.
func fullAt(name string) uint64 {
	const (
		four    = 1<<4 - 1
		eight   = 1<<8 - 1
		sixteen = 1<<16 - 1
	)
	switch name {
	case "local_link_integrity_errors", "excessive_buffer_overrun_errors":
		return four
	case "link_error_recovery", "link_downed", "port_xmit_constraint_errors", "port_rcv_constraint_errors":
		return eight
	case "symbol_error", "port_rcv_errors", "port_rcv_remote_physical_errors", "port_rcv_switch_relay_errors", "port_xmit_discards",
		"VL15_dropped":
		return sixteen
	case "port_xmit_wait":
		return math.MaxUint32
	}
	return 0
}

// fullData is where counters of data end on devices without the extended ones, which have 64 bits. A longer one may pass this very
// number, once in 4 thousand million readings.
const fullData = math.MaxUint32

// troubling tells whether a counter of the folder "hw_counters" means trouble: something was lost, came twice or too late, was
// refused or failed, or somebody was told to slow down. The names are those of the drivers of Linux 6.12.
func troubling(name string) bool {
	switch name {
	// mlx5 (counters.c)
	case "out_of_buffer", "out_of_sequence", "duplicate_request", "rnr_nak_retry_err", "packet_seq_err", "implied_nak_seq_err",
		"local_ack_timeout_err", "resp_local_length_error", "resp_cqe_error", "req_cqe_error", "req_remote_invalid_request",
		"req_remote_access_errors", "resp_remote_access_errors", "resp_cqe_flush_error", "req_cqe_flush_error",
		"req_transport_retries_exceeded", "req_rnr_retries_exceeded", "roce_adp_retrans", "roce_adp_retrans_to", "roce_slow_restart",
		"roce_slow_restart_cnps", "roce_slow_restart_trans", "rp_cnp_ignored", "rp_cnp_handled", "np_ecn_marked_roce_packets",
		"np_cnp_sent", "rx_icrc_encapsulated", "cc_rx_ce_pkts", "cc_rx_cnp_pkts", "cc_tx_cnp_pkts":
		return true
	// mlx4 (main.c, diag_basic and diag_ext)
	case "rq_num_lle", "sq_num_lle", "rq_num_lqpoe", "sq_num_lqpoe", "rq_num_lpe", "sq_num_lpe", "rq_num_wrfe", "sq_num_wrfe",
		"sq_num_mwbe", "sq_num_bre", "sq_num_rire", "rq_num_rire", "sq_num_rae", "rq_num_rae", "sq_num_roe", "sq_num_tree",
		"sq_num_rree", "rq_num_rnr", "sq_num_rnr", "rq_num_oos", "sq_num_oos", "rq_num_dup", "sq_num_to":
		return true
	// efa (efa_verbs.c; the last five are newer)
	case "rx_drops", "rdma_read_wr_err", "rdma_write_wr_err", "retrans_bytes", "retrans_pkts", "retrans_timeout_events",
		"unresponsive_remote_events", "impaired_remote_conn_events":
		return true
	// irdma (verbs.c)
	case "ip4InDiscards", "ip4InTruncatedPkts", "ip4OutNoRoutes", "ip6InDiscards", "ip6InTruncatedPkts", "ip6OutNoRoutes",
		"tcpRetransSegs", "tcpInOptErrors", "tcpInProtoErrors", "rxVlanErrors", "cnpHandled", "cnpIgnored", "cnpSent", "RxECNMrkd":
		return true
	// bnxt_re (hw_counters.c)
	case "tx_roce_errors", "tx_roce_discards", "rx_roce_errors", "rx_roce_discards", "to_retransmits", "seq_err_naks_rcvd",
		"max_retry_exceeded", "rnr_naks_rcvd", "missing_resp", "unrecoverable_err", "bad_resp_err", "local_qp_op_err",
		"local_protection_err", "mem_mgmt_op_err", "remote_invalid_req_err", "remote_access_err", "remote_op_err", "dup_req",
		"res_exceed_max", "res_length_mismatch", "res_rx_pci_err", "res_tx_pci_err", "oos_drop_count", "tx_cnp_pkts", "rx_cnp_pkts",
		"rx_ecn_marked_pkts", "pacing_alerts":
		return true
	// hns, erdma, rxe
	case "rx_err_pkt", "tx_err_pkt", "rx_cnp_pkt", "tx_cnp_pkt",
		"tx_disable_drop_cnt", "tx_bps_limit_drop_cnt", "tx_pps_limit_drop_cnt", "rx_disable_drop_cnt", "rx_bps_limit_drop_cnt",
		"rx_pps_limit_drop_cnt",
		"out_of_seq_request", "rcvd_rnr_err", "send_rnr_err", "rcvd_seq_err", "retry_exceeded_err", "retry_rnr_exceeded_err",
		"completer_retry_err", "send_err", "link_downed":
		return true
	}
	return false
}

// ParseState reads "4: ACTIVE" or "5: LinkUp" and returns the word as active, link_up.
func ParseState(text []byte) string {
	_, word, found := strings.Cut(string(bytes.TrimSpace(text)), ":")
	word = strings.TrimSpace(word)
	if !found || len(word) > 64 || strings.HasPrefix(word, "<") || word == "UNKNOWN" {
		return ""
	}
	var out strings.Builder
	lower := false // the letter before was one
	for i := range len(word) {
		c := word[i]
		upper := c >= 'A' && c <= 'Z'
		switch {
		case upper:
			if lower {
				out.WriteByte('_')
			}
			out.WriteByte(c + 'a' - 'A')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			out.WriteByte(c)
		case c == ' ':
			out.WriteByte('_')
		default:
			return ""
		}
		lower = c >= 'a' && c <= 'z'
	}
	return out.String()
}

// ParseRate reads "100 Gb/sec (4X EDR)" or "2.5 Gb/sec (1X SDR)" and returns bits per second, 0 where it is not understood.
func ParseRate(text []byte) (bits uint64) {
	number, rest, found := strings.Cut(string(text), " ")
	if !found || !strings.HasPrefix(rest, "Gb/sec") {
		return 0
	}
	whole, tenth, _ := strings.Cut(number, ".")
	const most = 1_000_000 // Gb/s
	gigabits, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || gigabits > most {
		return 0
	}
	bits = gigabits * 1_000_000_000
	switch tenth {
	case "", "0":
	case "5": // the kernel writes no other
		bits += 500_000_000
	default:
		return 0
	}
	return bits
}

// ParseCount reads a counter.
//
// Errors: ErrNoPMA, ErrNumber.
func ParseCount(text []byte) (uint64, error) {
	text = bytes.TrimSpace(text)
	if bytes.HasPrefix(text, []byte("N/A")) {
		return 0, ErrNoPMA
	}
	value, rest, err := kernelfs.Uint(text)
	if err != nil || len(rest) > 0 {
		return 0, ErrNumber
	}
	return value, nil
}

// parseGID returns an address as the kernel wrote it, "" where it is zero or not understood.
func parseGID(text []byte) string {
	word := string(bytes.TrimSpace(text))
	address, err := netip.ParseAddr(word)
	if err != nil || !address.Is6() || address.IsUnspecified() || address.Zone() != "" {
		return ""
	}
	return word
}

// ParseDriver finds the driver in a device's uevent file, "" for none.
func ParseDriver(text []byte) string {
	for len(text) > 0 {
		var line []byte
		line, text = kernelfs.Line(text)
		if name, found := strings.CutPrefix(string(line), "DRIVER="); found {
			return word([]byte(name))
		}
	}
	return ""
}

// word is a short text of the kernel's, "" where it is something else.
func word(text []byte) string {
	const most = 64
	text = bytes.TrimSpace(text)
	if len(text) > most || !utf8.Valid(text) || bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	return string(text)
}
