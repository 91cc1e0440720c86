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

// Users copy from the READMEs, so each Go block in them is a whole program that compiles.
func TestProgramsInReadmesCompile(t *testing.T) {
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
			t.Run(page+" "+strconv.Itoa(i+1), func(t *testing.T) {
				build(t, root, "readmeprogram", map[string]string{"main.go": program})
			})
			if page == "README.md" {
				assert.LessOrEqual(t, strings.Count(string(text), "\n"), 120, "the README grew long")
				assert.LessOrEqual(t, strings.Count(program, "\n"), 32, "the README's program grew long")
			}
		}
	}
	assert.NotZero(t, blocks, "the README shows no program")
}

// build compiles a package as if its directory were in the module, without writing there.
// files are its sources by name.
func build(t *testing.T, root, name string, files map[string]string) {
	dir := t.TempDir()
	replace := map[string]string{}
	for file, text := range files {
		source := filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(source, []byte(text), 0o600))
		replace[filepath.Join(root, "internal", "arch", name, file)] = source
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	list := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(list, overlay, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "-o", filepath.Join(dir, "program"), "./internal/arch/"+name)
	build.Dir = root
	out, err := build.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}
