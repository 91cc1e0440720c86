package arch

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadmeCompiles builds each Go block of the Markdown pages that users copy
// from. A block that is no whole program is wrapped into a function.
func TestReadmeCompiles(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	blocks := 0
	for _, page := range []string{"README.md", filepath.Join("examples", "README.md")} {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		for i, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1) {
			blocks++
			program := string(block[1])
			require.Contains(t, program, "package main", "%s, Go block %d: give readers a whole program", page, i+1)
			compile(t, root, page+strconv.Itoa(i), program)
			if page == "README.md" {
				assert.LessOrEqual(t, strings.Count(program, "\n"), 25, "the README's program grew long")
			}
		}
	}
	assert.NotZero(t, blocks, "the README shows no program")
}

// compile builds a program as if it stood in the module, without writing to the tree.
func compile(t *testing.T, root, name, program string) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "internal", "arch", "readmeprogram", "main.go"): source,
	}})
	require.NoError(t, err)
	list := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(list, overlay, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "-o", filepath.Join(dir, "program"), "./internal/arch/readmeprogram")
	build.Dir = root
	out, err := build.CombinedOutput()
	assert.NoError(t, err, "%s: %s", name, out)
}
