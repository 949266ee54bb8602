package monitor

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func BenchmarkSample(b *testing.B) {
	targets := make([]string, 50)
	for i := range targets {
		targets[i] = fmt.Sprintf("%q", fmt.Sprintf("10.0.0.%d", i+1))
	}
	for name, config := range map[string]string{
		"all": "{}", "interfaces": `{"sources":["interfaces"]}`, "50 targets": `{"targets":[` + strings.Join(targets, ",") + `]}`,
	} {
		b.Run(name, func(b *testing.B) {
			c, err := ParseConfig([]byte(config))
			if err != nil {
				b.Fatal(err)
			}
			m, err := New(c, Options{Tools: (&fakeNetwork{}).tools()})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Sample(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
