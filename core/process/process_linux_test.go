package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// tree is a /proc that the test makes: this process and others below and beside it.
type tree struct {
	t    *testing.T
	root string
}

func newTree(t *testing.T) *tree { return &tree{t, t.TempDir()} }

// add makes a process with two threads, the second of which has the children.
func (x *tree) add(pid, parent int, name string, children string, links ...string) {
	x.t.Helper()
	folder := filepath.Join(x.root, "proc", fmt.Sprint(pid))
	for _, thread := range []string{fmt.Sprint(pid), fmt.Sprint(pid + 100000)} {
		require.NoError(x.t, os.MkdirAll(filepath.Join(folder, "task", thread), 0o755))
		text := ""
		if thread != fmt.Sprint(pid) {
			text = children
		}
		require.NoError(x.t, os.WriteFile(filepath.Join(folder, "task", thread, "children"), []byte(text), 0o644))
	}
	require.NoError(x.t, os.MkdirAll(filepath.Join(folder, "fd"), 0o755))
	require.NoError(x.t, os.WriteFile(filepath.Join(folder, "stat"), fmt.Appendf(nil, "%d (%s) S %d 1 1 0", pid, name, parent), 0o644))
	for i, link := range links {
		require.NoError(x.t, os.Symlink(link, filepath.Join(folder, "fd", fmt.Sprint(i))))
	}
}

func (x *tree) read(ray Ray) Family {
	x.t.Helper()
	family, err := Read(kernelfs.Dir(x.root), ray)
	require.NoError(x.t, err)
	return family
}

func set(inodes ...uint32) map[uint32]bool {
	all := make(map[uint32]bool)
	for _, i := range inodes {
		all[i] = true
	}
	return all
}

func TestRead_childrenOfChildren(t *testing.T) {
	x, own := newTree(t), os.Getpid()
	x.add(own, 1, "python", "900001 900002 ", "socket:[1]")
	x.add(900001, own, "a) S 7 (b", "900003", "socket:[11]", "/dev/null", "pipe:[5]", "socket:[12]", "anon_inode:[eventpoll]")
	x.add(900002, 4711, "python", "900004", "socket:[13]") // another process has the number by now
	x.add(900003, 900001, "worker", "900001", "socket:[14]")
	x.add(900004, 900002, "stranger", "", "socket:[15]")
	family := x.read(Ray{})
	assert.Equal(t, set(11, 12, 14), family.Children)
	assert.Empty(t, family.Ray)
	assert.Zero(t, family.Refused)
}

// The connections of iperf3 are none of the job's.
func TestRead_programsOfBandwidthTests(t *testing.T) {
	x, own := newTree(t), os.Getpid()
	x.add(own, 1, "python", "900001 900002 ")
	x.add(900001, own, "netmon-keeper", "900003", "socket:[11]")
	x.add(900002, own, "worker", "", "socket:[12]")
	x.add(900003, 900001, "iperf3", "", "socket:[13]")
	assert.Equal(t, set(12), x.read(Ray{}).Children)
}

// Daemons are found above a worker, beside those, and below a driver, whose workers have monitors of their own.
func TestRead_ray(t *testing.T) {
	x, own := newTree(t), os.Getpid()
	x.add(1, 0, "init", "900010 900011 900012")
	x.add(900010, 1, "raylet", fmt.Sprint(own), "socket:[10]")
	x.add(900011, 1, "gcs_server", "", "socket:[11]")
	x.add(900012, 1, "sshd", "", "socket:[12]")
	x.add(own, 900010, "ray::worker", "900020 900021", "socket:[1]")
	x.add(900020, own, "data", "", "socket:[20]")
	x.add(900021, own, "raylet", "900022", "socket:[21]")
	x.add(900022, 900021, "ray::IDLE", "", "socket:[22]")
	family := x.read(Ray{Worker: true})
	assert.Equal(t, set(20), family.Children)
	assert.Equal(t, set(10, 11, 21), family.Ray)
	family = x.read(Ray{})
	assert.Equal(t, set(21), family.Ray, "only workers of Ray look around them")

	// A worker whose parent is another one, with the raylet's number from its environment.
	x = newTree(t)
	x.add(own, 2, "python", "")
	x.add(900010, 1, "raylet", "", "socket:[10]")
	assert.Equal(t, set(10), x.read(Ray{Worker: true, Raylet: 900010}).Ray)
}

func TestRead_noChildrenFile(t *testing.T) {
	x := newTree(t)
	folder := filepath.Join(x.root, "proc", fmt.Sprint(os.Getpid()), "task", "1")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	_, err := Read(kernelfs.Dir(x.root), Ray{})
	assert.ErrorContains(t, err, "has no /proc/PID/task/TID/children")
	_, err = Read(kernelfs.Dir(t.TempDir()), Ray{})
	assert.ErrorIs(t, err, unix.ENOENT)
}

func TestRead_system(t *testing.T) {
	command := exec.Command("cat")
	in, err := command.StdinPipe()
	require.NoError(t, err)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	socket := os.NewFile(uintptr(ends[0]), "socket")
	command.ExtraFiles = []*os.File{socket}
	require.NoError(t, command.Start())
	assert.True(t, HasChildren())
	family, err := Read(kernelfs.System(), Ray{})
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(ends[0], &st))
	assert.True(t, family.Children[uint32(st.Ino)])
	require.NoError(t, in.Close())
	require.NoError(t, command.Wait(), "nobody has waited for it before")
	socket.Close()
	unix.Close(ends[1])
	assert.False(t, HasChildren())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("1 22 333 "))
	f.Add([]byte("12 (a) b) S 1 2 3"))
	f.Add([]byte("socket:[4026531840]"))
	f.Add([]byte("socket:[99999999999]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, pid := range parseChildren(text) {
			if pid <= 0 {
				t.Error(pid)
			}
		}
		if name, parent, err := parseStat(text); err == nil && (parent < 0 || !strings.Contains(string(text), name)) {
			t.Error(name, parent)
		}
		_, _ = parseSocket(text)
	})
}
