// Package recorded unpacks recorded trees of kernel files, for tests. Nothing else imports it.
//
// A tree is one text, because sysfs has folders by the hundred whose names some systems do not allow ("0000:3b:00.0"). Its format is
// that of the ttar script of github.com/prometheus/procfs, without links and modes: "Path: NAME", "Lines: N" and N lines; a last
// line that ends with "EOF" has no newline.
package recorded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Unpack writes the files of a tree below a folder.
func Unpack(archive, folder string) error {
	text, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(text), "\n")
	for i := 0; i < len(lines) && lines[i] != ""; {
		path, isPath := strings.CutPrefix(strings.TrimSpace(lines[i]), "Path: ")
		if !isPath || i+1 == len(lines) {
			return fmt.Errorf("recorded: %s line %d: no path: %q", archive, i+1, lines[i])
		}
		count, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(lines[i+1], "Lines: ")))
		if i += 2; err != nil || count < 0 || i+count > len(lines) || !filepath.IsLocal(path) {
			return fmt.Errorf("recorded: %s line %d: %w", archive, i, errors.Join(err, errors.New("wrong path or number of lines")))
		}
		content := strings.Join(lines[i:i+count], "")
		if whole, cut := strings.CutSuffix(content, "EOF\n"); cut {
			content = whole
		}
		i += count
		file := filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
