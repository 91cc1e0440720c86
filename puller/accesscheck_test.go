package puller

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ofTheKubelet = "records/testdata/kubelet"

// kubeletWorld is a world with the records of a kubelet, where all images are present.
func kubeletWorld(t *testing.T, dir string, verify pullpolicy.VerificationPolicy, ids map[string]string) *world {
	t.Helper()
	store, err := records.OpenKubelet(dir)
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	policy, err := pullpolicy.NewVerification(verify)
	require.NoError(t, err)
	w := newWorld(t, Config{Records: store, Verify: policy})
	w.runtime.store = ids
	return w
}

// The Decision names the record, the secret and the policy that count, and what would
// change the answer.
func TestExplainReadsTheKubeletsRecords(t *testing.T) {
	regcred := credentials.Credential{
		Username: "robot", Password: credentials.Conceal("<correct> horse"), Email: "robot@example.test",
		Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "web", Name: "regcred", UID: "7", Key: "registry.example"},
	}
	copied, renewed, other := regcred, regcred, regcred
	copied.Origin.Name, copied.Origin.UID = "copy", "9"
	renewed.Password = credentials.Conceal("new")
	other.Origin.UID, other.Password = "9", credentials.Conceal("other")
	account := credentials.Pod{Namespace: "web", ServiceAccount: credentials.ServiceAccount{Name: "builder", UID: "8"}}
	const app, nginx = "registry.example/team/app:v1", "nginx:1"
	for _, c := range []struct {
		what, image, id string
		verify          pullpolicy.VerificationPolicy
		pod             credentials.Pod
		cred            *credentials.Credential
		store           StoreState
		matched, text   string
	}{
		{"the Secret", app, "sha256:1", "", credentials.Pod{Namespace: "web"}, &regcred, StorePresent, "web/regcred (7)", "the same Secret"},
		{"the Secret with new content", app, "sha256:1", "", credentials.Pod{Namespace: "web"}, &renewed, StorePresent, "web/regcred (7)", "the same Secret"},
		{"a copy of the Secret", app, "sha256:1", "", credentials.Pod{Namespace: "web"}, &copied, StorePresent, "web/copy (9)", "same content"},
		{"another Secret", app, "sha256:1", "", credentials.Pod{Namespace: "web"}, &other, StoreNotYours, "", "none of the Pod's secrets"},
		{"no Secret", app, "sha256:1", "", credentials.Pod{}, nil, StoreNotYours, "", "none of the Pod's secrets"},
		{"a service account", "registry.example/team/copy:v1", "sha256:1", "", account, nil, StorePresent, "web/builder (8)", "service account"},
		{"another name", "registry.example/team/third:v1", "sha256:1", "", credentials.Pod{}, nil, StoreNotYours, "", "under another name"},
		{"no verification", app, "sha256:1", pullpolicy.NeverVerify, credentials.Pod{}, nil, StorePresent, "", "does not ask for proof"},
		{"everybody", nginx, "sha256:2", "", credentials.Pod{}, nil, StorePresent, "", "anonymously or with the node's credential"},
		{"a canonical name, which the kubelet does not make", "docker.io/library/nginx:1", "sha256:2", "", credentials.Pod{}, nil, StoreNotYours, "", "under another name"},
		{"a record without names", nginx, "sha256:3", "", credentials.Pod{}, nil, StoreNotYours, "", "no Pod has proved yet"},
		{"preloaded", "registry.example/x:v1", "sha256:4", "", credentials.Pod{}, nil, StorePresent, "", "does not ask for proof"},
		{"preloaded, and always verified", "registry.example/x:v1", "sha256:4", pullpolicy.AlwaysVerify, credentials.Pod{}, nil, StoreNotYours, "", "no Pod has proved yet"},
		{"a pull that is noted", "registry.example/team/app:v2", "sha256:4", "", credentials.Pod{}, nil, StoreNotYours, "", "no Pod has proved yet"},
		{"a pull of the same name, written in another way", "nginx:latest", "sha256:4", "", credentials.Pod{}, nil, StorePresent, "", "does not ask for proof"},
	} {
		t.Run(c.what, func(t *testing.T) {
			verify := c.verify
			if verify == "" {
				verify = pullpolicy.NeverVerifyPreloadedImages
			}
			w := kubeletWorld(t, ofTheKubelet, verify, map[string]string{c.image: c.id})
			req := Request{Image: c.image, Policy: pullpolicy.IfNotPresent, Pod: c.pod}
			if c.cred != nil {
				req.Keyring = keyringOf(*c.cred)
			}
			d, err := w.Explain(t.Context(), req)
			require.NoError(t, err)
			assert.Equal(t, c.store, d.Store, "%s", d)
			assert.Contains(t, d.StoreWhy, c.text)
			require.NotNil(t, d.Access)
			assert.Equal(t, verify, d.Access.Verify)
			assert.Equal(t, c.id, d.Access.ID)
			assert.Equal(t, c.id != "sha256:4", d.Access.Recorded)
			assert.Equal(t, c.matched, d.Access.Matched)
			assert.Equal(t, c.store == StoreNotYours, d.Access.Change != "")
			data, err := json.Marshal(d)
			require.NoError(t, err)
			for _, text := range []string{d.String(), string(data)} {
				assert.NotContains(t, text, "horse")
				assert.NotContains(t, text, "e52dbdf39f1c", "the kubelet's hash can be used to try passwords")
			}
			// A Pod that may use the image gets it, and nothing is pulled or written.
			req.Policy = pullpolicy.Never
			img, err := w.Pull(t.Context(), req)
			assert.Equal(t, c.store == StorePresent, err == nil, "%v", err)
			if err == nil {
				assert.Equal(t, c.id, img.ID)
			}
		})
	}
}

// A pull would have to write a note, and only the kubelet may write notes into its
// records.
func TestPullWithTheKubeletsRecordsIsRefused(t *testing.T) {
	w := kubeletWorld(t, ofTheKubelet, pullpolicy.AlwaysVerify, nil)
	_, err := w.Pull(t.Context(), Request{Image: "registry.example/x:v1"})
	assert.ErrorIs(t, err, records.ErrReadOnly)
	assert.NotContains(t, w.runtime.took(), "pull registry.example/x:v1 with anonymous")
	assert.ErrorIs(t, w.Sweep(t.Context(), time.Time{}, func(string) bool { return true }), records.ErrReadOnly)
}

// If a record cannot be read, the Pod has to prove that it may use the image, whatever the
// policy, as in the kubelet. Other images can be used as before.
func TestAKubeletsRecordThatCannotBeReadRequiresProof(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(ofTheKubelet)))
	files, err := filepath.Glob(filepath.Join(dir, "image_manager", "pulled", "sha256-35bdf*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte("{"), 0o600))
	w := kubeletWorld(t, dir, pullpolicy.NeverVerify, map[string]string{"nginx:1": "sha256:2", "registry.example/team/app:v1": "sha256:1"})
	for image, want := range map[string]StoreState{"nginx:1": StoreNotYours, "registry.example/team/app:v1": StorePresent} {
		d, err := w.Explain(t.Context(), Request{Image: image, Policy: pullpolicy.IfNotPresent})
		require.NoError(t, err)
		assert.Equal(t, want, d.Store, image)
		assert.Equal(t, want == StoreNotYours, d.Access.Error != "")
	}
}

// A Decision has no AccessCheck without records, and if the store is not asked.
func TestAccessCheckIsForRecordsOnly(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.store["a.example/a:1"] = "sha256:1"
	d, err := w.Explain(t.Context(), Request{Image: "a.example/a:1"})
	require.NoError(t, err)
	assert.Nil(t, d.Access)
	w = kubeletWorld(t, ofTheKubelet, pullpolicy.AlwaysVerify, nil)
	for _, policy := range []pullpolicy.Policy{pullpolicy.Always, pullpolicy.IfNotPresent} {
		d, err = w.Explain(t.Context(), Request{Image: "a.example/a:1", Policy: policy})
		require.NoError(t, err)
		assert.Nil(t, d.Access, "the image is absent or the store is not asked")
	}
}
