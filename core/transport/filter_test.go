package transport

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The examples of NCCL's documentation, and what its code makes of odd texts.
func TestFilter(t *testing.T) {
	ports := []string{"mlx5_0:1", "mlx5_0:2", "mlx5_1:1", "mlx5_10:1", "bnxt_re0:1"}
	for text, want := range map[string]string{
		"":                      "mlx5_0:1 mlx5_0:2 mlx5_1:1 mlx5_10:1 bnxt_re0:1",
		"mlx5":                  "mlx5_0:1 mlx5_0:2 mlx5_1:1 mlx5_10:1",
		"mlx5_1":                "mlx5_1:1 mlx5_10:1", // a prefix
		"=mlx5_1":               "mlx5_1:1",
		"=mlx5_0:1,mlx5_1:1":    "mlx5_0:1 mlx5_1:1",
		"mlx5_0:2":              "mlx5_0:2",
		"^mlx5_0":               "mlx5_1:1 mlx5_10:1 bnxt_re0:1",
		"^mlx5_1":               "mlx5_0:1 mlx5_0:2 bnxt_re0:1",
		"^=mlx5_1,mlx5_4":       "mlx5_0:1 mlx5_0:2 mlx5_10:1 bnxt_re0:1",
		"^=mlx5_0:2":            "mlx5_0:1 mlx5_1:1 mlx5_10:1 bnxt_re0:1",
		"mlx4":                  "",
		"=mlx5":                 "",
		"^mlx5,bnxt":            "",
		"^":                     "", // no list names all, and all are excluded
		"=":                     "mlx5_0:1 mlx5_0:2 mlx5_1:1 mlx5_10:1 bnxt_re0:1",
		"=^mlx5_1":              "", // ^ comes first, or is part of a name
		",,bnxt,":               "bnxt_re0:1",
		"mlx5_1:1:7,bnxt":       "mlx5_1:1 mlx5_10:1 bnxt_re0:1", // the rest of a word is left out
		"mlx5_0:":               "",                              // port 0
		"mlx5_0:x":              "",
		"mlx5_0:2x":             "mlx5_0:2",
		":1":                    "mlx5_0:1 mlx5_0:2 mlx5_1:1 mlx5_10:1 bnxt_re0:1", // nothing is named
		"mlx5_0:-1":             "mlx5_0:1 mlx5_0:2",
		" mlx5_0":               "",
		"mlx5_0:99999999999999": "",
	} {
		filter := ParseFilter(text)
		var got []string
		for _, port := range ports {
			device, number, _ := strings.Cut(port, ":")
			if filter.Accepts(device, leadingNumber(number)) {
				got = append(got, port)
			}
		}
		assert.Equal(t, want, strings.Join(got, " "), "%q", text)
	}
}

// parseLikeNCCL is parseStringList of NCCL's src/misc/utils.cc, letter by letter.
func parseLikeNCCL(text string) (entries []filterEntry) {
	at := func(i int) byte {
		if i < len(text) {
			return text[i]
		}
		return 0
	}
	name := ""
	for i := 0; ; i++ {
		c := at(i)
		switch c {
		case ':':
			if name != "" {
				entries = append(entries, filterEntry{name, leadingNumber(text[min(i+1, len(text)):])})
				name = ""
			}
			for c != ',' && c != 0 {
				i++
				c = at(i)
			}
		case ',', 0:
			if name != "" {
				entries = append(entries, filterEntry{name, anyPort})
				name = ""
			}
		default:
			name += string([]byte{c})
		}
		if c == 0 {
			return entries
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, text := range []string{"", "^=mlx5_0:1,mlx5_1", "mlx5", "=", ":1,:", "a:b:c,,d:2x"} {
		f.Add(text, "mlx5_0", 1)
	}
	f.Fuzz(func(t *testing.T, text, device string, port int) {
		if strings.ContainsRune(text, 0) { // an environment variable holds none
			t.Skip()
		}
		filter := ParseFilter(text)
		rest, exclude := strings.CutPrefix(text, "^")
		rest, exact := strings.CutPrefix(rest, "=")
		assert.Equal(t, exclude, filter.exclude)
		assert.Equal(t, exact, filter.exact)
		want := parseLikeNCCL(rest)
		assert.True(t, slices.Equal(want, filter.entries), fmt.Sprintf("%v %v", want, filter.entries))
		filter.exclude = !exclude
		assert.NotEqual(t, ParseFilter(text).Accepts(device, port), filter.Accepts(device, port))
	})
}
