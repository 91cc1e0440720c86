package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
)

// TestMain makes the test program a node, if the demonstration starts it for that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "node" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestDemonstrationAsksTheRegistrySeldom(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), nil, nil, &out))
	text := out.String()
	for _, want := range []string{"node 1 ", "node 8 ", "node 9 ", "node 10 "} {
		assert.Contains(t, text, want)
	}
	assert.Equal(t, 2, strings.Count(text, "is killed"))
	sent := regexp.MustCompile(`The registry sent [0-9.]+ MiB, ([0-9.]+) x the image, for 10 nodes`).FindStringSubmatch(text)
	require.NotNil(t, sent, text)
	times, err := strconv.ParseFloat(sent[1], 64)
	require.NoError(t, err)
	assert.LessOrEqual(t, times, 3.0, "without each other it would be 10; that it is about 1 is a figure of internal/bench")
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestWrongUsageIsAnError(t *testing.T) {
	for _, args := range [][]string{{"nodes"}, {"node"}, {"node", "-dir", "x", "more"}, {"node", "-dir", t.TempDir(), "-key", "absent"}} {
		err := run(t.Context(), args, strings.NewReader(""), io.Discard)
		assert.Error(t, err, args)
		assert.Equal(t, len(args) < 5, errors.Is(err, errUsage), args)
	}
	var out bytes.Buffer
	assert.NoError(t, run(t.Context(), []string{"-h"}, nil, &out))
	assert.Contains(t, out.String(), "fleet node -dir DIR")
	assert.ErrorIs(t, run(t.Context(), []string{"node", "-h"}, nil, io.Discard), flag.ErrHelp)
}

// testNode starts a node of one member.
func testNode(t *testing.T, conf nodeConfig) *node {
	t.Helper()
	conf.dir, conf.listen, conf.plainHTTP = t.TempDir(), "127.0.0.1:0", true
	n, err := startNode(conf)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, n.close()) })
	return n
}

func testRegistry(t *testing.T, conf pullertest.Config) (*pullertest.Registry, pullertest.PutResult) {
	t.Helper()
	reg, err := pullertest.Start(conf)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reg.Close() })
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{100_000, 50_000}})
	require.NoError(t, err)
	return reg, put
}

// get asks a node for a path, and returns the status and the body.
func get(t *testing.T, n *node, path string) (int, []byte) {
	t.Helper()
	resp, err := http.Get("http://" + n.name + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, body
}

// The first node for a digest pulls the image for other nodes. It pulls only images of its
// registry, and pulls nothing for a request that asks only for what is in the store.
func TestTheFirstNodePulls(t *testing.T) {
	reg, put := testRegistry(t, pullertest.Config{})
	other, _ := testRegistry(t, pullertest.Config{})
	n := testNode(t, nodeConfig{registry: reg.Host()})
	blob := put.Blobs[1]
	path := "v1/v2/team/app/blobs/" + string(blob.Digest) + "?ns="
	status, _ := get(t, n, havePath+path+reg.Host())
	assert.Equal(t, http.StatusNotFound, status)
	status, _ = get(t, n, waitPath+path+other.Host())
	assert.Equal(t, http.StatusNotFound, status)
	assert.Zero(t, reg.Counts().Total()+other.Counts().Total())

	status, body := get(t, n, waitPath+path+reg.Host())
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, blob.Digest, digest.FromBytes(body))
	status, body = get(t, n, havePath+path+reg.Host())
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, blob.Digest, digest.FromBytes(body))
	sent := reg.Counts().BlobBytes
	assert.LessOrEqual(t, sent, int64(151_000+10_000))
	status, _ = get(t, n, waitPath+"v1/v2/team/app/blobs/"+string(digest.FromString("absent"))+"?ns="+reg.Host())
	assert.Equal(t, http.StatusNotFound, status)
	status, _ = get(t, n, waitPath+"v2/v2/team/app/blobs/"+string(digest.FromString("absent"))+"?ns="+reg.Host())
	assert.Equal(t, http.StatusNotFound, status, "a tag that does not exist")
	assert.Equal(t, sent, reg.Counts().BlobBytes)
}

// A private image is not given to other nodes, neither while it is pulled nor afterwards.
func TestAPrivateImageIsNotServed(t *testing.T) {
	reg, put := testRegistry(t, pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
	n := testNode(t, nodeConfig{registry: reg.Host()})
	_, err := n.pull(t.Context(), reference.MustParse(reg.Host()+"/team/app:v1"))
	require.Error(t, err, "the node has no credential")
	path := "v1/v2/team/app/blobs/" + string(put.Blobs[1].Digest) + "?ns=" + reg.Host()
	n.change(func() {
		n.has[blobKey{reg.Host() + "/team/app", put.Blobs[1].Digest}] = blob{Descriptor: put.Blobs[1]} // as an event of a pull with a credential
	})
	for _, prefix := range []string{waitPath, havePath} {
		status, _ := get(t, n, prefix+path)
		assert.Equal(t, http.StatusNotFound, status)
	}
}

// Package serve serves what was pulled before, to other clients too.
func TestWhatWasPulledIsServedToEveryClient(t *testing.T) {
	reg, put := testRegistry(t, pullertest.Config{})
	n := testNode(t, nodeConfig{registry: reg.Host()})
	_, err := n.pull(t.Context(), reference.MustParse(reg.Host()+"/team/app:v1"))
	require.NoError(t, err)
	n.change(func() { clear(n.has) }) // as after a restart
	for _, path := range []string{"/v2/team/app/manifests/v1", "/v2/team/app/blobs/" + string(put.Blobs[1].Digest), havePath + "v1/v2/team/app/blobs/" + string(put.Blobs[1].Digest)} {
		status, _ := get(t, n, path+"?ns="+reg.Host())
		assert.Equal(t, http.StatusOK, status, path)
	}
}

func TestRequestsAreParsed(t *testing.T) {
	d := string(digest.FromString("x"))
	for path, want := range map[string]string{
		waitPath + "v1/v2/team/app/blobs/" + d + "?ns=reg.example":                        "reg.example/team/app:v1 true",
		havePath + "v1/v2/a/b/c/blobs/" + d + "?ns=reg.example:5000":                      "reg.example:5000/a/b/c:v1 false",
		waitPath + d + "/v2/app/blobs/" + d + "?ns=docker.io":                             "docker.io/library/app@" + d + " true",
		waitPath + "v1/v2/app/blobs/" + d:                                                 "",
		waitPath + "v1/v2/app/blobs/sha256:1?ns=reg.example":                              "",
		waitPath + "v1/v2/app/manifests/" + d + "?ns=reg.example":                         "",
		waitPath + "v1/v2/app/blobs/" + d + "?ns=reg.example/x":                           "",
		waitPath + "v1/v2/../app/blobs/" + d + "?ns=reg.example":                          "",
		"/v2/app/blobs/" + d + "?ns=reg.example":                                          "",
		waitPath + "%3Cb%3E/v2/app/blobs/" + d + "?ns=reg.example":                        "",
		waitPath + "v1/v2/app/blobs/sha512:" + strings.Repeat("0", 128) + "?ns=r.example": "",
	} {
		asked, ok := parseRequest(httptest.NewRequest(http.MethodGet, path, nil).URL)
		got := ""
		if ok {
			got = asked.image.String() + " " + strconv.FormatBool(asked.wait)
		}
		assert.Equal(t, want, got, path)
	}
}

// A node answers each command, and says what is wrong with a wrong one.
func TestANodeAnswersCommands(t *testing.T) {
	reg, _ := testRegistry(t, pullertest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, commands := io.Pipe()
	answers, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"node", "-dir", t.TempDir(), "-registry", reg.Host(), "-plain-http"}, in, out)
	}()
	lines := json.NewDecoder(answers)
	var l line
	require.NoError(t, lines.Decode(&l))
	assert.NotEmpty(t, l.Gossip)
	for command, want := range map[string]string{
		"pull " + reg.Host() + "/team/app:v1": "", "pull A@@": "A@@", "pull " + reg.Host() + "/no/such:v1": "404", "sing": "not a command", "stats": "",
	} {
		_, err := io.WriteString(commands, command+"\n")
		require.NoError(t, err)
		l = line{}
		require.NoError(t, lines.Decode(&l))
		assert.Contains(t, l.Error, want)
		assert.Equal(t, want == "", l.Error == "", command)
		assert.Equal(t, 1, l.Members)
	}
	require.NoError(t, commands.Close())
	require.NoError(t, <-ended)
}

// A recorder is a ResponseWriter that notes its deadlines and what its ReadFrom gets.
type recorder struct {
	*httptest.ResponseRecorder
	deadlines []time.Duration
	files     int
}

func (r *recorder) SetWriteDeadline(at time.Time) error {
	r.deadlines = append(r.deadlines, time.Until(at).Round(time.Second))
	return nil
}

func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			r.files++
		}
	}
	return io.Copy(r.Body, src)
}

// Each piece of a blob has a deadline, and the system gets the file itself.
func TestEachPieceHasADeadline(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blob")
	data := bytes.Repeat([]byte("0123456789abcdef"), (2<<20+16)/16)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	for header, want := range map[string]struct {
		body   []byte
		pieces int
	}{"": {data, 3}, "bytes=1048000-": {data[1048000:], 2}, "bytes=3-5": {data[3:6], 1}} {
		to := &recorder{ResponseRecorder: httptest.NewRecorder()}
		w := &countedWriter{ResponseWriter: to}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Range", header)
		http.ServeContent(w, r, "", time.Time{}, f)
		assert.True(t, bytes.Equal(want.body, to.Body.Bytes()), header)
		assert.Equal(t, int64(len(want.body)), w.sent)
		assert.Equal(t, want.pieces, to.files, header)
		assert.Equal(t, slices.Repeat([]time.Duration{pieceTime}, want.pieces), to.deadlines, header)
	}
}
