// Package core is the documentation of netmon's measuring half: what its packages are and which may import which.
//
// Data flows one way: kernel, core, capi, header, Python. Core knows nothing of cgo, prints nothing, has no globals and
// reads the environment in one package only (job). A package imports only packages of lower layers, and, inside a layer,
// only those that capi/deps_test.go names with a reason. That test also fails when this list and its table differ.
//
// Layers, lowest first:
//
//	L0  units      conversions between the kernel's units and netmon's
//	L0  clock      monotonic and wall time, waiting that can be woken, CPU time of a thread
//	L0  kernelfs   kernel files under an injectable root, kept open and read from their start
//	L0  kernelfs/recorded  unpacks recorded trees of kernel files, for tests
//	L1  netdev     /proc/net/dev: byte, packet and error counters of every interface
//	L1  snmp       /proc/net/snmp, netstat, snmp6: protocol counters of IP, TCP and UDP
//	L1  sockstat   /proc/net/sockstat, sockstat6: sockets in use and the memory they hold
//	L1  link       kinds, states, speeds and addresses of interfaces, and routes to an address, from rtnetlink and ethtool
//	L1  rdma       /sys/class/infiniband: ports of RDMA devices, their state, addresses and counters
//	L1  pcie       /sys/bus/pci: the links of network devices and GPUs
//	L1  nvlink     what the NVIDIA library says of NVLinks, and whether there is a driver
//	L1  route      which interface the default route leaves by
//	L1  process    processes below this one and Ray's daemons beside it: the inodes of their sockets
//	L1  tcpinfo    TCP connections of this process by descriptor, of others by inet_diag: addresses and TCP_INFO
//	L1  probe      what a probe is, how targets are written, limits of the traffic
//	L1  probe/stamp  sockets with kernel time stamps and error queues, from stamps to round trips
//	L1  probe/icmp   round trips by ICMP echo
//	L1  probe/tcp    round trips by the beginning of a TCP handshake
//	L1  probe/udp    round trips by UDP echo, and the responder that answers
//	L1  probe/dns    addresses of names by the system's resolver configuration, and how long that took
//	L1  probe/path   routers on the way to an address, round trips to them, and the longest packet that passes
//	L1  tool       results of tools that measure throughput, and running programs
//	L1  tool/iperf3     iperf3's arguments and its JSON
//	L1  tool/speedtest  speedtest-cli's arguments and its JSON
//	L1  tool/throughput throughput between two instances of netmon
//	L1  inventory  host identity, and interfaces with counters where the system is not Linux, from gopsutil
//	L2  rate       raw counters to totals that never decrease: resets, 32-bit wraps, jumps
//	L2  reach      probes targets: schedule, choice of method, names, windows, requests on demand
//	L2  exercise   runs the tests of throughput that somebody asked for, and serves those of others
//	L2  peer       totals of connections by the address at their other end
//	L2  stats      mean, standard deviation and quantiles of recorded values
//	L3  job        rank, node and master address of the training job
//	L3  transport  which plane carries the job's traffic, and why not RDMA or another interface
//	L3  phase      the parts of a job that were given names: what the network did meanwhile, and what held them up
//	L3  collective  the job's collectives: rows by operation, group and size, algbw, busbw, share of time
//	L3  sample     the sample document: its types, its JSON, its metrics by name
//	L4  alert      rules held against samples: thresholds with a direction, a time and a level at which they are over
//	L4  cluster    the whole job: digests of processes, and one view made of them
//	L5  diagnose   findings: which host, link or setting holds the job up, from samples and views
//	L6  monitor    the sampling loop, on-demand samples, history, health and their cost
//
// Beside them stands nettest, hosts for tests, which no other package imports.
package core
