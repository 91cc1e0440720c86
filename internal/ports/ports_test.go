package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOverlayReplacesFiles: the overlay replaces this system's files by those of the
// other system, without their constraints.
func TestOverlayReplacesFiles(t *testing.T) {
	pkg, out := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"all.go":            "package p\n",
		"a_linux.go":        "package p\n",
		"a_other.go":        "//go:build !linux\n\npackage p\n\nfunc f() {}\n",
		"b_openbsd.go":      "package p\n",
		"b_windows.go":      "package p\n",
		"c_none.go":         "//go:build plan9\n\npackage p\n",
		"c_bsd.go":          "//go:build openbsd\n\npackage p\n",
		"d_linux_test.go":   "package p\n",
		"e_openbsd_test.go": "package p\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(pkg, name), []byte(text), 0o644))
	}
	require.NoError(t, run([]string{"overlay", "-as", "openbsd", "-but", "c_=plan9", "-dir", out, pkg}))
	var got struct{ Replace map[string]string }
	data, err := os.ReadFile(filepath.Join(out, "overlay.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &got))
	var names []string
	for name, to := range got.Replace {
		assert.Equal(t, pkg, filepath.Dir(name))
		names = append(names, filepath.Base(name))
		if to != "" {
			text, err := os.ReadFile(to)
			require.NoError(t, err)
			assert.NotContains(t, string(text), "go:build")
			assert.Contains(t, string(text), "package p")
		}
	}
	assert.ElementsMatch(t, []string{"a_linux.go", "d_linux_test.go", "adopted-a-other.go", "adopted-b-openbsd.go", "adopted-c-none.go", "adopted-e-openbsd_test.go"}, names)
	assert.Empty(t, got.Replace[filepath.Join(pkg, "a_linux.go")])
}

func TestOverlayRefuses(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"overlay"},
		{"overlay", "-dir", t.TempDir()},
		{"overlay", "-dir", t.TempDir(), t.TempDir()},
		{"overlay", "-but", "x", "-dir", t.TempDir(), "."},
		{"leftout"},
	} {
		assert.Error(t, run(args), "%q", args)
	}
}

// TestLeftOutTestsExist: each test in leftout.txt exists, and has a reason of more than
// three words.
func TestLeftOutTestsExist(t *testing.T) {
	list, err := parseLeftOut(leftOutText)
	require.NoError(t, err)
	for _, l := range list {
		assert.Contains(t, []string{"windows", "darwin"}, l.system, "%v", l)
		assert.Greater(t, len(strings.Fields(l.reason)), 3, "%v", l)
		assert.True(t, slices.Contains(testsOf(t, l.pkg), l.test), "%v: the package has no such test", l)
	}
	_, err = parseLeftOut("windows puller/layout TestX")
	assert.Error(t, err, "no reason")
}

// testsOf returns the names of a package's test functions, examples and fuzz targets.
func testsOf(t *testing.T, pkg string) (names []string) {
	files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pkg), "*_test.go"))
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

func TestSkipPattern(t *testing.T) {
	for _, system := range []string{"windows", "darwin", "linux"} {
		pattern, err := skipPattern(system)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(pattern, "^(") && strings.HasSuffix(pattern, ")$"), pattern)
		if system == "linux" {
			assert.Equal(t, "^()$", pattern, "everything runs on Linux")
		}
	}
}

// TestSystemsPage: the table of systems.md has each system that .ci/run vets, and each
// package below puller.
func TestSystemsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "systems.md"))
	require.NoError(t, err)
	ci, err := os.ReadFile(filepath.Join("..", "..", ".ci", "run"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(ci), "\nothers=\"")
	require.True(t, found)
	others, _, _ := strings.Cut(rest, "\"")
	require.Greater(t, len(strings.Fields(others)), 10)
	for _, system := range strings.Fields(others) {
		assert.Contains(t, string(page), system)
	}
	packages, err := filepath.Glob(filepath.Join("..", "..", "puller", "*", "doc.go"))
	require.NoError(t, err)
	require.NotEmpty(t, packages)
	for _, name := range packages {
		assert.Contains(t, string(page), filepath.Base(filepath.Dir(name)))
	}
}
