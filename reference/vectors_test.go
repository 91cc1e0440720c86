package reference_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/reference"
)

type nameVector struct {
	Input        string `json:"input"`
	InputBase64  string `json:"input_base64"`
	Registry     string `json:"registry"`
	Repository   string `json:"repository"`
	Tag          string `json:"tag"`
	TagDefaulted bool   `json:"tag_defaulted"`
	Digest       string `json:"digest"`
	Canonical    string `json:"canonical"`
	Familiar     string `json:"familiar"`
	CRI          string `json:"cri"`
	Runtime      string `json:"runtime"`
}

// name returns the bytes to parse.
func (v nameVector) name(t *testing.T) string {
	if v.InputBase64 == "" {
		return v.Input
	}
	b, err := base64.StdEncoding.DecodeString(v.InputBase64)
	require.NoError(t, err)
	return string(b)
}

// load reads a file of vectors and checks how many there are, so that none is lost.
func load[T any](t testing.TB, file string, want int) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	require.NoError(t, err)
	var rows []T
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, want)
	return rows
}

func TestVectorsOfAcceptedNames(t *testing.T) {
	for _, v := range load[nameVector](t, "accept.json", 168) {
		checkAccepted(t, v)
		assert.Equal(t, v.Familiar, reference.MustParse(v.name(t)).Familiar(), "Familiar of %q", v.Input)
	}
}

// checkAccepted compares all of a name except its familiar form.
func checkAccepted(t *testing.T, v nameVector) {
	t.Helper()
	r, w, err := reference.ParseWritten(v.name(t))
	require.NoError(t, err, "%q", v.Input)
	plain, err := reference.Parse(v.name(t))
	require.NoError(t, err, "%q", v.Input)
	assert.Equal(t, plain, r, "Parse and ParseWritten of %q", v.Input)
	assert.Equal(t, v.Registry, r.Registry(), "registry of %q", v.Input)
	assert.Equal(t, v.Repository, r.Repository(), "repository of %q", v.Input)
	assert.Equal(t, v.Registry+"/"+v.Repository, r.Name(), "name of %q", v.Input)
	assert.Equal(t, v.Tag, r.Tag(), "tag of %q", v.Input)
	assert.Equal(t, v.Digest, r.Digest().String(), "digest of %q", v.Input)
	assert.Equal(t, v.Canonical, r.String(), "canonical form of %q", v.Input)
	assert.Equal(t, v.CRI, w.CRI, "CRI form of %q", v.Input)
	assert.Equal(t, v.Tag != "" && !v.TagDefaulted, w.Tag, "tag written in %q", v.Input)
	assert.Equal(t, v.Runtime, r.WithoutTag().String(), "containerd's form of %q", v.Input)
	again, err := reference.Parse(r.Familiar())
	require.NoError(t, err, "familiar form of %q", v.Input)
	assert.Equal(t, r, again, "familiar form of %q", v.Input)
}

func TestVectorsOfRefusedNames(t *testing.T) {
	for _, v := range load[nameVector](t, "reject.json", 182) {
		r, err := reference.Parse(v.name(t))
		var perr *reference.ParseError
		require.ErrorAs(t, err, &perr, "%q", v.Input)
		assert.Zero(t, r, "%q", v.Input)
		assert.NotEqual(t, reference.Reason(""), perr.Reason, "%q", v.Input)
		assert.LessOrEqual(t, perr.Offset, len(v.name(t)), "%q", v.Input)
	}
}

func TestVectorsOfEqualNames(t *testing.T) {
	type pair struct {
		A, B  string
		Equal bool
	}
	for _, v := range load[pair](t, "pairs.json", 31) {
		a, b := reference.MustParse(v.A), reference.MustParse(v.B)
		assert.Equal(t, v.Equal, a == b, "%q and %q", v.A, v.B)
		assert.Equal(t, v.Equal, a.Compare(b) == 0, "Compare of %q and %q", v.A, v.B)
	}
}

func TestVectorsOfFaultPositions(t *testing.T) {
	type position struct {
		Input, Part string
		At          int
	}
	parts := map[string]reference.Part{
		"host": reference.PartRegistry, "name": reference.PartRepository,
		"tag": reference.PartTag, "digest": reference.PartDigest,
	}
	for _, v := range load[position](t, "positions.json", 58) {
		_, err := reference.Parse(v.Input)
		var perr *reference.ParseError
		require.ErrorAs(t, err, &perr, "%q", v.Input)
		assert.Equal(t, v.At, perr.Offset, "offset in %q: %v", v.Input, err)
		assert.Equal(t, parts[v.Part], perr.Part, "part of %q: %v", v.Input, err)
	}
}

// These are the decisions about surprising answers of the kubelet.
const (
	refuseUnderscore = "refused: the kubelet's answer has no registry, so nothing could be pulled"
	keepDockerIO     = "followed, but Familiar keeps docker.io/, without which another image is meant"
	follow           = "followed: the kubelet pulls it under this name"
)

func TestVectorsOfSurprisingAnswers(t *testing.T) {
	decide := func(v nameVector) string {
		switch {
		case v.Registry == "":
			return refuseUnderscore
		case strings.Count(v.Repository, "/") > 0 && v.Registry == "docker.io" && !strings.HasPrefix(v.Repository, "library/"):
			return keepDockerIO
		}
		return follow
	}
	count := map[string]int{}
	for _, v := range load[nameVector](t, "quirk.json", 23) {
		decision := decide(v)
		count[decision]++
		switch decision {
		case refuseUnderscore:
			_, err := reference.Parse(v.Input)
			assert.ErrorIs(t, err, reference.ErrUnderscore, "%q", v.Input)
		case keepDockerIO:
			checkAccepted(t, v)
			assert.Equal(t, v.Canonical, reference.MustParse(v.Input).Familiar(), "%q", v.Input)
		case follow:
			checkAccepted(t, v)
			assert.Equal(t, v.Familiar, reference.MustParse(v.Input).Familiar(), "%q", v.Input)
		}
	}
	assert.Equal(t, map[string]int{refuseUnderscore: 6, keepDockerIO: 6, follow: 11}, count)
}

func TestVectorsOfTrimmedNames(t *testing.T) {
	type row struct {
		Image, Trimmed string
		Error          bool
	}
	for _, v := range load[row](t, "trim.json", 23) {
		got, err := reference.Trim(v.Image)
		assert.Equal(t, v.Error, err != nil, "Trim(%q): %v", v.Image, err)
		assert.Equal(t, v.Trimmed, got, "Trim(%q)", v.Image)
	}
}
