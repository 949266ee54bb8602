package monitor

import (
	"io"
	"testing"
)

func BenchmarkSample(b *testing.B) {
	for name, config := range map[string]string{"all": "{}", "interfaces": `{"sources":["interfaces"]}`} {
		b.Run(name, func(b *testing.B) {
			c, err := ParseConfig([]byte(config))
			if err != nil {
				b.Fatal(err)
			}
			m, err := New(c, Options{})
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
