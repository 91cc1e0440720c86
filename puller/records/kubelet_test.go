package records

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openKubelet opens records in dir. The records in testdata were written by the kubelet's
// own code; see internal/oracle.
func openKubelet(t *testing.T, dir string) *Kubelet {
	t.Helper()
	k, err := OpenKubelet(dir)
	require.NoError(t, err)
	t.Cleanup(func() { k.Close() })
	return k
}

// robot is the credential of which the records in testdata have the hash.
var robot = credentials.Credential{Username: "robot", Password: credentials.Conceal("<correct> horse"), Email: "robot@example.test"}

func TestKubeletsRecordsAreRead(t *testing.T) {
	k := openKubelet(t, "testdata/kubelet")
	rec, err := k.Record(t.Context(), "sha256:1")
	require.NoError(t, err)
	assert.Equal(t, "sha256:1", rec.ID)
	assert.Equal(t, time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), rec.Updated.UTC())
	require.Len(t, rec.Names, 2)
	secrets := rec.Names["registry.example/team/app"].Secrets
	require.Len(t, secrets, 1)
	assert.Equal(t, SecretID{Namespace: "web", Name: "regcred", UID: "7", Hash: secrets[0].Hash}, secrets[0])
	assert.Equal(t, Access{ServiceAccounts: []credentials.ServiceAccount{{Namespace: "web", Name: "builder", UID: "8"}}}, rec.Names["registry.example/team/copy"])

	assert.True(t, secrets[0].Matches(robot))
	for _, other := range []credentials.Credential{
		{Username: "robot", Password: credentials.Conceal("<correct> horse")}, // the e-mail address is in the hash
		{Username: "robot", Password: credentials.Conceal("other"), Email: robot.Email},
		{},
	} {
		assert.False(t, secrets[0].Matches(other))
	}

	rec, err = k.Record(t.Context(), "sha256:2")
	require.NoError(t, err)
	assert.Equal(t, map[string]Access{"nginx": {Everybody: true}}, rec.Names)
	rec, err = k.Record(t.Context(), "sha256:3")
	require.NoError(t, err)
	assert.Empty(t, rec.Names)
	_, err = k.Record(t.Context(), "sha256:4")
	assert.ErrorIs(t, err, fs.ErrNotExist)

	ids := []string{}
	for rec, err := range k.List(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, rec.ID)
	}
	assert.ElementsMatch(t, []string{"sha256:1", "sha256:2", "sha256:3"}, ids)
	noted := []string{}
	for image, err := range k.Intents(t.Context()) {
		require.NoError(t, err)
		noted = append(noted, image)
	}
	assert.ElementsMatch(t, []string{"nginx", "registry.example/team/app:v2"}, noted)
	for image, want := range map[string]bool{"nginx": true, "nginx:latest": false, "docker.io/library/nginx": false, "registry.example/team/app:v2": true} {
		got, err := k.Intended(t.Context(), image)
		require.NoError(t, err)
		assert.Equal(t, want, got, image)
	}
}

// The methods that would have to write return an error, and write nothing into the
// kubelet's directory.
func TestKubeletsRecordsAreNotWritten(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/kubelet")))
	k := openKubelet(t, dir)
	before := listAll(t, dir)
	_, err := k.Intend(t.Context(), "nginx")
	assert.ErrorIs(t, err, ErrReadOnly)
	assert.ErrorIs(t, k.Grant(t.Context(), "sha256:1", "nginx", Access{Everybody: true}), ErrReadOnly)
	assert.ErrorIs(t, k.Sweep(t.Context(), time.Now(), func(string) bool { return false }), ErrReadOnly)
	assert.Equal(t, before, listAll(t, dir))
}

// listAll returns the files below a directory with their content and times.
func listAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		if !d.IsDir() {
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			all[name] = string(data)
		}
		all[name] += info.ModTime().String()
		return nil
	}))
	return all
}

func TestOpenKubeletNeedsTheDirectoryOfAKubelet(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenKubelet(dir)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "KubeletEnsureSecretPulledImages")
	_, err = OpenKubelet("")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "image_manager"), 0o700))
	k := openKubelet(t, dir) // the kubelet makes the rest later
	_, err = k.Record(t.Context(), "sha256:1")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	noted, err := k.Intended(t.Context(), "nginx")
	assert.NoError(t, err)
	assert.False(t, noted)
	for _, err := range k.List(t.Context()) {
		assert.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = k.Record(ctx, "sha256:1")
	assert.ErrorIs(t, err, context.Canceled)
}

// A file that the kubelet cannot read is an error for its image only.
func TestAKubeletsFileThatCannotBeReadIsAnError(t *testing.T) {
	const head = `{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1beta1","imageRef":"x"`
	for data, text := range map[string]string{
		"":            "bad JSON",
		"null":        "apiVersion",
		"[]":          "wrong type",
		head:          "bad JSON",
		head + "} {}": "data after the document",
		strings.Replace(head, "v1beta1", "v1", 1) + "}":                                            "neither v1alpha1 nor v1beta1",
		strings.Replace(head, "ImagePulledRecord", "ImagePullIntent", 1) + "}":                     "not ImagePulledRecord",
		strings.Replace(head, "imageRef", "ImageRef", 1) + "}":                                     "does not have",
		head + `,"imageRef":"x"}`:                                                                  "twice",
		head + `,"lastUpdatedTime":"now"}`:                                                         "RFC 3339",
		head + `,"lastUpdatedTime":7}`:                                                             "wrong type",
		head + `,"credentialMapping":{"a":{},"a":{}}}`:                                             "twice",
		head + `,"credentialMapping":{"a":{"more":1}}}`:                                            "does not have",
		head + `,"credentialMapping":{"a":{"nodePodsAccessible":"yes"}}}`:                          "wrong type",
		head + `,"credentialMapping":{"a":{"kubernetesServiceAccounts":[{"credentialHash":""}]}}}`: "does not have",
	} {
		t.Run(text, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/kubelet")))
			k := openKubelet(t, dir)
			require.NoError(t, os.WriteFile(filepath.Join(dir, kubeletDir, kubeletFile(pulledDir, "x")), []byte(data), 0o600))
			_, err := k.Record(t.Context(), "x")
			assert.ErrorContains(t, err, text)
			assert.NotErrorIs(t, err, fs.ErrNotExist)
			_, err = k.Record(t.Context(), "sha256:1")
			assert.NoError(t, err)
			errs := 0
			for _, err := range k.List(t.Context()) {
				if err != nil {
					errs++
				}
			}
			assert.Equal(t, 1, errs)
		})
	}
}

// As in the kubelet, a file whose name does not fit the image in it does not count as a
// record.
func TestAKubeletsFileOfAnotherImageIsNotARecord(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/kubelet")))
	k := openKubelet(t, dir)
	pulled := filepath.Join(dir, kubeletDir)
	require.NoError(t, os.Rename(filepath.Join(pulled, kubeletFile(pulledDir, "sha256:1")), filepath.Join(pulled, kubeletFile(pulledDir, "x"))))
	require.NoError(t, os.Rename(filepath.Join(pulled, kubeletFile(pullingDir, "nginx")), filepath.Join(pulled, kubeletFile(pullingDir, "x"))))
	_, err := k.Record(t.Context(), "x")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	noted, err := k.Intended(t.Context(), "x")
	assert.NoError(t, err)
	assert.False(t, noted)

	// A large file, a directory and a temporary file.
	require.NoError(t, os.WriteFile(filepath.Join(pulled, kubeletFile(pulledDir, "large")), make([]byte, maxFile+1), 0o600))
	_, err = k.Record(t.Context(), "large")
	assert.ErrorContains(t, err, "too large")
	require.NoError(t, os.Mkdir(filepath.Join(pulled, kubeletFile(pulledDir, "dir")), 0o700))
	_, err = k.Record(t.Context(), "dir")
	assert.ErrorContains(t, err, "not a regular file")
	require.NoError(t, os.WriteFile(filepath.Join(pulled, kubeletFile(pullingDir, "y")+kubeletTemp), nil, 0o600))
	for _, err := range k.Intents(t.Context()) {
		assert.NoError(t, err)
	}
}

// FuzzKubelet holds that every file is read or is an error, and that encoding/json reads
// the same values.
func FuzzKubelet(f *testing.F) {
	for _, pattern := range []string{"pulled", "pulling"} {
		files, err := filepath.Glob(filepath.Join("testdata/kubelet/image_manager", pattern, "*"))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var plain struct {
			Kind, Image, ImageRef string
			CredentialMapping     map[string]struct {
				NodePodsAccessible bool
				KubernetesSecrets  []struct{ UID, Namespace, Name, CredentialHash string }
			}
		}
		jsonErr := json.Unmarshal(data, &plain)
		if image, err := parseKubeletIntent(data); err == nil {
			require.NoError(t, jsonErr)
			assert.Equal(t, kindPullIntent, plain.Kind)
			assert.Equal(t, plain.Image, image)
		}
		rec, err := parseKubeletRecord(data)
		if err != nil {
			assert.NotContains(t, err.Error(), "\n")
			return
		}
		require.NoError(t, jsonErr)
		assert.Equal(t, kindPulled, plain.Kind)
		assert.Equal(t, plain.ImageRef, rec.ID)
		require.Len(t, rec.Names, len(plain.CredentialMapping))
		for name, want := range plain.CredentialMapping {
			got := rec.Names[name]
			assert.Equal(t, want.NodePodsAccessible, got.Everybody)
			require.Len(t, got.Secrets, len(want.KubernetesSecrets))
			for i, s := range want.KubernetesSecrets {
				assert.Equal(t, s.CredentialHash, strings.TrimPrefix(got.Secrets[i].Hash, kubeletHash))
				assert.Equal(t, s.UID, got.Secrets[i].UID)
			}
		}
	})
}

var (
	_ Reader = (*Kubelet)(nil)
	_ Lister = (*Kubelet)(nil)
)
