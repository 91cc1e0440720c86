package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/pullertest"
)

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	assert.NotContains(t, out.String()+errs.String(), "s3cret-pass")
	return code, out.String(), errs.String()
}

func TestTheDemonstrationSaysWhyEachImageIsRefused(t *testing.T) {
	code, out, errs := call(t)
	require.Equal(t, 0, code, errs)
	blocks := strings.Split(out, "\n  policy ")
	require.Len(t, blocks, 7, out)
	for i, want := range []string{"admitted by rule 1", "the image is not signed", "another key, or for another image", "another key, or for another image", "rejected by the policy", "admitted by rule 1"} {
		assert.Contains(t, blocks[i], want)
	}
	assert.Equal(t, 3, strings.Count(out, "key of the team: "), "each refusal names the key")
	assert.Contains(t, blocks[6], "Never, 0 requests")
	assert.Equal(t, 4, strings.Count(out, "SignatureValidationFailed"))
}

// private starts a registry with a private image, and writes a config.json that opens it.
func private(t *testing.T) (image string, reg *pullertest.Registry) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	// The password is base64("robot:s3cret-pass").
	require.NoError(t, os.WriteFile("config.json", []byte(`{"auths": {"`+reg.Host()+`": {"auth": "cm9ib3Q6czNjcmV0LXBhc3M="}}}`), 0o600))
	require.NoError(t, os.Mkdir("programs", 0o755))
	return reg.Host() + "/team/app:v1", reg
}

func program(t *testing.T, text string) {
	require.NoError(t, os.WriteFile(filepath.Join("programs", "check"), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

func TestProgramsDecideAboutAPrivateImage(t *testing.T) {
	image, reg := private(t)
	args := []string{"-programs", "programs", "-plain-http", image}
	program(t, `echo unsigned; exit 1`)
	code, _, errs := call(t, args...)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, `SignatureValidationFailed`)
	assert.Contains(t, errs, `program "check": exit status 1: unsigned`)
	assert.Zero(t, reg.Counts().BlobGet, "no blob of a refused image is fetched")
	blobs, err := filepath.Glob("images/blobs/*/*")
	require.NoError(t, err)
	assert.Empty(t, blobs)

	program(t, `/bin/grep -q cm9ib3Q6czNjcmV0LXBhc3M= "$DOCKER_CONFIG/config.json" && echo signed by key 7`)
	code, out, errs := call(t, args...)
	assert.Equal(t, 0, code, errs)
	assert.Equal(t, image+": admitted by check => signed by key 7\n", out)

	// The next process finds the admission in the records.
	code, out, _ = call(t, append([]string{"-explain", "-policy", "Never"}, args...)...)
	assert.Equal(t, 0, code)
	assert.Contains(t, out, "has admitted")
	assert.Contains(t, out, "by check => signed by key 7")

	// A changed program is asked about the stored image again.
	program(t, `echo revoked; exit 1 # now`)
	code, _, errs = call(t, append([]string{"-policy", "Never"}, args...)...)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "revoked")
	code, out, _ = call(t, append([]string{"-policy", "Never", "-trust-present"}, args...)...)
	assert.Equal(t, 0, code)
	assert.Equal(t, image+": used without a check\n", out)

	require.NoError(t, os.RemoveAll("programs"))
	code, _, errs = call(t, append([]string{"-policy", "Never"}, args...)...)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "could not decide")
}

func TestWrongUsageIsSaid(t *testing.T) {
	for _, args := range [][]string{{"-programs", "x"}, {"image"}, {"-unknown"}, {"-policy", "Sometimes", "-programs", "x", "y"}} {
		code, out, errs := call(t, args...)
		assert.Equal(t, 2, code, args)
		assert.Empty(t, out)
		assert.NotEmpty(t, errs)
	}
	code, _, errs := call(t, "-h")
	assert.Equal(t, 0, code)
	assert.Contains(t, errs, "-programs")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var sink bytes.Buffer
	assert.Equal(t, 1, run(ctx, nil, &sink, &sink))
}
