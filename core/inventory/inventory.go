// Package inventory tells which machine this is and, where the system is not Linux, what interfaces it has and what they
// counted, through gopsutil.
//
// On Linux the interfaces come from package link instead: gopsutil knows neither kinds, states, masters nor speeds there, and
// asks the kernel for all addresses once per interface (16.5 ms for 400 interfaces where one list takes 2.8). Other systems are
// compiled and vetted, not tested. Needs no privilege.
package inventory

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/host"

	"netmon/core/kernelfs"
)

// Identity says which machine and network namespace this is. Empty and zero are not known.
type Identity struct {
	Hostname         string
	OS               string // as Go names it: linux, darwin, windows
	Kernel           string // release, as uname -r prints it
	BootID           string // changes with every boot
	NetworkNamespace uint64 // inode
	// Reasons say why a field, by its name in the sample document, is not known.
	Reasons map[string]string
}

// Host identifies the machine and the calling thread's network namespace.
//
// Source: gethostname(2), gopsutil's host.KernelVersion (uname(2)), /proc/sys/kernel/random/boot_id, and the inode of
// /proc/thread-self/ns/net (namespaces(7)).
func Host(fs kernelfs.FS) Identity {
	id := Identity{OS: runtime.GOOS, Reasons: make(map[string]string)}
	note := func(field string, err error) {
		if err != nil {
			id.Reasons[field] = err.Error()
		}
	}
	var err error
	id.Hostname, err = os.Hostname()
	note("hostname", err)
	id.Kernel, err = host.KernelVersion()
	note("kernel", err)
	if runtime.GOOS != "linux" {
		id.Reasons["boot_id"] = "only Linux has one"
		id.Reasons["network_namespace"] = "only Linux has them"
		return id
	}
	boot, err := fs.ReadFile("proc/sys/kernel/random/boot_id")
	id.BootID = strings.TrimSpace(string(boot))
	note("boot_id", err)
	id.NetworkNamespace, err = NetworkNamespace(fs)
	note("network_namespace", err)
	return id
}

// NetworkNamespace is the inode of the calling thread's network namespace, as ip-netns(8) and lsns(8) print it.
func NetworkNamespace(fs kernelfs.FS) (uint64, error) {
	target, err := fs.Readlink("proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	digits := strings.TrimSuffix(strings.TrimPrefix(target, "net:["), "]")
	return strconv.ParseUint(digits, 10, 64)
}
