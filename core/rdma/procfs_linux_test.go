package rdma

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/prometheus/procfs/sysfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// snake is the kernel's name of a counter that package sysfs calls so.
func snake(name string) string {
	if name == "VL15Dropped" {
		return "VL15_dropped"
	}
	var out strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// What this package reads is what github.com/prometheus/procfs reads, in all recordings. It cannot be read by procfs itself in the
// library: each of its os.Open would have the Go runtime keep an epoll descriptor, which ends the process when the host closes it.
func TestRead_againstProcfs(t *testing.T) {
	for _, tree := range trees() {
		t.Run(tree, func(t *testing.T) {
			h := newHost(t, tree)
			fs, err := sysfs.NewFS(filepath.Join(h.root, "sys"))
			require.NoError(t, err)
			class, err := fs.InfiniBandClass()
			require.NoError(t, err)
			ports, readings := h.ports()
			seen, compared := 0, 0
			for _, device := range class {
				for _, theirs := range device.Ports {
					name := fmt.Sprintf("%s/%d", device.Name, theirs.Port)
					p, r := ports[name], readings[name]
					require.NotNil(t, p, name)
					seen++
					assert.Equal(t, strings.ToLower(theirs.State), r.State, name)
					assert.Equal(t, strings.ToLower(theirs.PhysState), strings.ReplaceAll(r.PhysicalState, "_", ""), name)
					assert.Equal(t, theirs.LinkLayer, r.LinkLayer, name)
					if r.RateMissing == "" {
						assert.Equal(t, theirs.Rate*8, r.RateBits, name)
					}
					// It takes every count for one of 4 bytes, those of Omni-Path too.
					for direction, data := range []*uint64{theirs.Counters.PortRcvData, theirs.Counters.PortXmitData} {
						if data != nil {
							require.NoError(t, r.Data[direction].Err, name)
							assert.Equal(t, *data, r.Data[direction].Value*4, name)
							compared++
						}
					}
					for _, group := range []any{theirs.Counters, theirs.HwCounters} {
						values := reflect.ValueOf(group)
						for i := range values.NumField() {
							kernels, value := snake(values.Type().Field(i).Name), values.Field(i)
							place := slices.Index(p.Names, kernels)
							if value.IsNil() || fullAt(kernels) == 0 && !troubling(kernels) {
								continue
							}
							require.GreaterOrEqual(t, place, 0, "%s %s", name, kernels)
							if got := r.Counters[place]; got.Err == nil {
								assert.Equal(t, value.Elem().Uint(), got.Value, "%s %s", name, kernels)
								compared++
							} else {
								assert.Equal(t, ErrFull, got.Err, "%s %s", name, kernels)
								assert.Equal(t, fullAt(kernels), value.Elem().Uint(), "%s %s", name, kernels)
							}
						}
					}
				}
			}
			assert.Equal(t, len(ports), seen)
			t.Logf("%d ports, %d counters", seen, compared)
		})
	}
}
