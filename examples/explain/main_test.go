package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller"
)

func TestEachSituationHasAdvice(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), false, &out))
	at := 0
	for _, want := range []string{
		"== The secret has an old password", "401 UNAUTHORIZED", `=> The registry does not accept secret "web/stale"`,
		"== The secret's key", "one anonymous try", `=> No credential matches this image. Not tried: secret "web/no-port", key "127.0.0.1" (the port is another one).`,
		"== imagePullPolicy is Never", "policy      Never", "=> ErrImageNeverPull: the image is absent, and under the policy Never the registry is not asked",
		"== The image failed", "-> ImagePullBackOff", "=> The registry is not asked for another ",
	} {
		i := strings.Index(out.String()[at:], want)
		require.GreaterOrEqual(t, i, 0, "%q in order in:\n%s", want, out.String())
		at += i
	}
	assert.NotContains(t, out.String(), "the-old-password")
	assert.NotContains(t, out.String(), "the-new-password")
}

func TestEachSituationAsJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), true, &out))
	var actions []puller.Action
	var reasons []puller.Reason
	for line := range strings.Lines(out.String()) {
		var s situation
		require.NoError(t, json.Unmarshal([]byte(line), &s), line)
		actions, reasons = append(actions, s.Decision.Action), append(reasons, s.Decision.Reason)
		assert.NotEmpty(t, s.Advice)
	}
	assert.Equal(t, []puller.Action{puller.ActionPull, puller.ActionPull, puller.ActionFail, puller.ActionWait}, actions)
	assert.Equal(t, []puller.Reason{puller.ErrImagePull, puller.ErrImagePull, puller.ErrImageNeverPull, puller.ErrImagePullBackOff}, reasons)
}

// explainOf runs the program on the records in the testdata of package records, which the
// kubelet's own code has written.
func explainOf(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = start(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestTheRecordsSayWhetherAPodMayUseAnImage(t *testing.T) {
	const dir = "../../puller/records/testdata/kubelet"
	secret := filepath.Join(t.TempDir(), "secret.yaml")
	require.NoError(t, os.WriteFile(secret, []byte(`apiVersion: v1
kind: Secret
metadata: {name: regcred, namespace: web, uid: "7"}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths":{"registry.example":{"username":"robot","password":"new"}}}'
`), 0o600))
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-namespace", "web", "-secret", secret, "registry.example/team/app:v1"},
			[]string{"store     present", "sha256:1  (found, last written at 2026-11-29T12:00:00Z)", "secrets   web/regcred (7)", "matched   web/regcred (7)", "=> The Pod may use the image: the same Secret"}},
		{[]string{"registry.example/team/app:v1"},
			[]string{"present, but not for this Pod", "to change", "one of these Secrets", "=> The Pod may not use the image: none of the Pod's secrets", "anonymously"}},
		{[]string{"-policy", "Never", "-policy", "AlwaysVerify", "-id", "sha256:9", "registry.example/team/app:v1"},
			[]string{"records     AlwaysVerify", "preloaded", "=> The Pod may not use the image", "ErrImageNeverPull"}},
		{[]string{"-policy", "NeverVerifyAllowlistedImages", "-allow", "registry.example/team/*", "registry.example/team/app:v1"},
			[]string{"=> The Pod may use the image: the verification policy does not ask for proof"}},
		{[]string{"-namespace", "web", "-account", "builder,8", "registry.example/team/copy:v1"},
			[]string{"accounts  web/builder (8)", "matched   web/builder (8)", "=> The Pod may use the image"}},
		{[]string{"nginx:1"}, []string{"lets      every Pod use it", "=> The Pod may use the image"}},
		{[]string{"busybox:1"}, []string{"preloaded", "=> The Pod may use the image", "give its ID with -id"}},
	} {
		status, stdout, stderr := explainOf(t, append([]string{"-kubelet", dir}, c.args...)...)
		require.Zero(t, status, stderr)
		for _, want := range c.want {
			assert.Contains(t, stdout, want, "%q", c.args)
		}
		status, stdout, _ = explainOf(t, append([]string{"-json", "-kubelet", dir}, c.args...)...)
		require.Zero(t, status)
		var d puller.Decision
		require.NoError(t, json.Unmarshal([]byte(stdout), &d))
		assert.NotNil(t, d.Access)
	}
}

// TestUnderAlwaysTheRecordsDoNotCount: the advice says with which credentials the registry is
// asked, and not that a credential has failed.
func TestUnderAlwaysTheRecordsDoNotCount(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.yaml")
	const login = `{apiVersion: v1, kind: Secret, metadata: {name: %[1]s, namespace: web}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: '{"auths":{"registry.example":{"username":"%[1]s","password":"p"}}}'}}`
	require.NoError(t, os.WriteFile(secret, []byte(fmt.Sprintf(login, "a")+"\n---\n"+fmt.Sprintf(login, "b")), 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "anonymously, because the Pod has no credential for the image."},
		{[]string{"-namespace", "web", "-secret", secret}, "with the 2 credentials above."},
	} {
		status, stdout, stderr := explainOf(t, append(append([]string{"-kubelet", "../../puller/records/testdata/kubelet", "-policy", "Always"}, c.args...), "registry.example/team/app:v1")...)
		require.Zero(t, status, stderr)
		assert.Contains(t, stdout, "=> The records do not count: under the policy Always the registry decides. The kubelet asks the registry")
		assert.True(t, strings.HasSuffix(stdout, c.want+"\n"), stdout)
	}
}

// TestRecordsThatCannotBeReadAreCounted: the error has their number and the reason of the
// first one, so that it stays short.
func TestRecordsThatCannotBeReadAreCounted(t *testing.T) {
	dir := t.TempDir()
	pulled := filepath.Join(dir, "image_manager", "pulled")
	require.NoError(t, os.MkdirAll(pulled, 0o700))
	for i := range 300 {
		require.NoError(t, os.WriteFile(filepath.Join(pulled, fmt.Sprintf("sha256-%064x", i)), []byte("{"), 0o600))
	}
	status, _, stderr := explainOf(t, "-kubelet", dir, "nginx")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "Records that cannot be read: 300, the first because of ")
	assert.Less(t, len(stderr), 1000)

	// The record of this ID cannot be read, so the output does not say that the image is
	// preloaded or that it has no record.
	require.NoError(t, os.WriteFile(filepath.Join(pulled, fmt.Sprintf("sha256-%x", sha256.Sum256([]byte("x")))), []byte("{"), 0o600))
	status, stdout, _ := explainOf(t, "-kubelet", dir, "-id", "x", "nginx")
	assert.Zero(t, status)
	assert.Contains(t, stdout, "(it is not known whether a pull brought it)")
	assert.Contains(t, stdout, "x  (not read)")
	assert.NotContains(t, stdout, "preloaded")
	assert.NotContains(t, stdout, "the record has none")
}

func TestWrongUsageIsExplained(t *testing.T) {
	dir := t.TempDir()
	for text, args := range map[string][]string{
		"unexpected argument":       {"nginx"},
		"need -kubelet":             {"-policy", "Never"},
		"0 images are named":        {"-kubelet", dir},
		"not supported":             {"-kubelet", dir, "-policy", "Sometimes", "nginx"},
		"a comma and the UID":       {"-kubelet", dir, "-account", "sa", "nginx"},
		"flag provided but not def": {"-bogus"},
	} {
		status, _, stderr := explainOf(t, args...)
		assert.Equal(t, 2, status, text)
		assert.Contains(t, stderr, text)
	}
	for text, args := range map[string][]string{
		"is not the directory of a kubelet": {"-kubelet", dir, "nginx"},
		"only NeverVerifyAllowlistedImages": {"-kubelet", "../../puller/records/testdata/kubelet", "-allow", "a/*", "nginx"},
		"no such file":                      {"-kubelet", "../../puller/records/testdata/kubelet", "-secret", filepath.Join(dir, "absent"), "nginx"},
		"image name":                        {"-kubelet", "../../puller/records/testdata/kubelet", "a b"},
	} {
		status, _, stderr := explainOf(t, args...)
		assert.Equal(t, 1, status, text)
		assert.Contains(t, stderr, text)
	}
	status, _, _ := explainOf(t, "-h")
	assert.Zero(t, status)
}
