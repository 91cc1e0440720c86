package oracle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/images/pullmanager"
)

var (
	recordImages = []string{"r.io/team/app:v1", "r.io/team/app", "r.io/team/app:v2", "r.io/team/app@sha256:" + zeros, "docker.io/library/nginx:1", "nginx:1", "nginx", "r.io:5000/x:v1"}
	recordIDs    = []string{"sha256:" + zeros, "sha256:1", "r.io/team/app@sha256:" + zeros}
	recordKeys   = []string{"r.io", "r.io/team", "docker.io", "https://index.docker.io/v1/", "r.io:5000"}
)

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// A node has the records of a kubelet, and the same records as package records reads them.
type node struct {
	dir      string
	accessor pullmanager.PullRecordsAccessor
	verify   string
	enforcer pullmanager.ImagePullPolicyEnforcer
	theirs   pullmanager.ImagePullManager
	ours     *puller.Puller
	store    *records.Kubelet
	id       *string // of the image that is present
}

func newNode(t *testing.T, r *rand.Rand) *node {
	n := &node{dir: t.TempDir(), id: new(string)}
	accessor, err := pullmanager.NewFSPullRecordsAccessor(klog.Background(), n.dir)
	require.NoError(t, err)
	n.accessor = accessor
	n.verify = pickOf(r, []string{"NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"})
	var list []string
	if n.verify == "NeverVerifyAllowlistedImages" {
		list = []string{pickOf(r, []string{"r.io/team/*", "nginx", "r.io/team/app", "docker.io/*"})}
	}
	enforcer, err := pullmanager.NewImagePullCredentialVerificationPolicy(kubeletconfig.ImagePullCredentialsVerificationPolicy(n.verify), list)
	require.NoError(t, err)
	n.enforcer = enforcer
	n.theirs, err = pullmanager.NewImagePullManager(t.Context(), accessor, enforcer, noImages{}, 10)
	require.NoError(t, err)
	verify, err := pullpolicy.NewVerification(pullpolicy.VerificationPolicy(n.verify), list...)
	require.NoError(t, err)
	n.store, err = records.OpenKubelet(n.dir)
	require.NoError(t, err)
	t.Cleanup(func() { n.store.Close() })
	n.ours, err = puller.New(puller.Config{Runtime: presentImage{n.id}, Records: n.store, Verify: verify, AsKubelet: true})
	require.NoError(t, err)
	return n
}

// noImages is the runtime of a node without images.
type noImages struct{ kubecontainer.ImageService }

func (noImages) ListImages(context.Context) ([]kubecontainer.Image, error) { return nil, nil }

// A presentImage is a Runtime that has every image, under one ID.
type presentImage struct{ id *string }

func (p presentImage) Status(_ context.Context, spec puller.Spec) (puller.Image, error) {
	return puller.Image{Ref: spec.Ref, ID: *p.id, Digest: digest.Digest("sha256:" + zeros)}, nil
}

func (presentImage) Pull(context.Context, puller.Spec) (puller.Image, error) {
	return puller.Image{}, fs.ErrNotExist
}

// randomSecrets returns pull secrets of the namespace web.
func randomSecrets(r *rand.Rand) (out []v1.Secret) {
	for range r.IntN(3) {
		auths := map[string]any{}
		for range 1 + r.IntN(2) {
			login := map[string]string{"username": pickOf(r, []string{"a", "b", "<&>", "\u2028"}), "password": pickOf(r, []string{"1", "2", "é\"\\"})}
			if r.IntN(3) == 0 {
				login["email"] = pickOf(r, []string{"a@b", "", "x"})
			}
			auths[pickOf(r, recordKeys)] = login
		}
		data, _ := json.Marshal(map[string]any{"auths": auths})
		name := pickOf(r, []string{"s1", "s2"})
		out = append(out, v1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, UID: types.UID(pickOf(r, []string{"u1", "u2"}) + name)},
			Type:       v1.SecretTypeDockerConfigJson, Data: map[string][]byte{v1.DockerConfigJsonKey: data},
		})
	}
	return out
}

// credentialsOf returns the pull secrets that the kubelet's image manager finds for an image.
func credentialsOf(t *testing.T, list []v1.Secret, image string) (out []kubeletconfig.ImagePullSecret) {
	ring, err := secrets.MakeDockerKeyring(list, &credentialprovider.BasicDockerKeyring{})
	require.NoError(t, err)
	found, _ := ring.Lookup(trimmed(image))
	for _, c := range found {
		if c.Source != nil && c.Source.Secret != nil {
			out = append(out, kubeletconfig.ImagePullSecret{UID: c.Source.Secret.UID, Namespace: c.Source.Secret.Namespace, Name: c.Source.Secret.Name, CredentialHash: c.AuthConfigHash})
		}
	}
	return out
}

// trimmed returns the repository of an image, by which the kubelet looks up credentials.
func trimmed(image string) string {
	switch image {
	case "nginx", "nginx:1", "docker.io/library/nginx:1":
		return "docker.io/library/nginx"
	case "r.io:5000/x:v1":
		return "r.io:5000/x"
	}
	return "r.io/team/app"
}

// TestRecordsAreReadAsTheKubeletReadsThem lets the kubelet's own code write records and notes,
// spoils some of the files, and compares whether a Pod may use a present image.
func TestRecordsAreReadAsTheKubeletReadsThem(t *testing.T) {
	quietKlog(t)
	r := rand.New(rand.NewPCG(7, 8))
	trials, granted, spoilt := 0, 0, 0
	for range 400 {
		n := newNode(t, r)
		for range 8 {
			n.change(t, r)
			if r.IntN(4) == 0 {
				spoilt += n.spoil(t, r)
			}
			for range 4 {
				image, id := pickOf(r, recordImages), pickOf(r, recordIDs)
				list := randomSecrets(r)
				account := &kubeletconfig.ImagePullServiceAccount{Namespace: "web", Name: "sa", UID: pickOf(r, []string{"sa1", "sa2"})}
				*n.id = id
				ring := make([]credentials.Secret, 0, len(list))
				for _, s := range list {
					ring = append(ring, credentials.Secret{Namespace: s.Namespace, Name: s.Name, UID: string(s.UID), Type: string(s.Type), Data: credentials.ConcealData(s.Data)})
				}
				d, err := n.ours.Explain(t.Context(), puller.Request{
					Image: image, Policy: pullpolicy.IfNotPresent, Keyring: credentials.FromSecrets(ring, credentials.Rules{Kubelet: true}),
					Pod: credentials.Pod{Namespace: "web", UID: "pod", ServiceAccount: credentials.ServiceAccount{Namespace: account.Namespace, Name: account.Name, UID: account.UID}},
				})
				require.NoError(t, err)
				// A kubelet that has just started has only the files.
				restarted, err := pullmanager.NewImagePullManager(t.Context(), n.accessor, n.enforcer, noImages{}, 10)
				require.NoError(t, err)
				must, err := restarted.MustAttemptImagePull(t.Context(), image, id, func() ([]kubeletconfig.ImagePullSecret, *kubeletconfig.ImagePullServiceAccount, error) {
					return credentialsOf(t, list, image), account, nil
				})
				require.NoError(t, err)
				require.Equal(t, must, d.Store == puller.StoreNotYours, "policy %s, image %s, id %s: %s", n.verify, image, id, d)
				require.Equal(t, must, d.Access.Change != "")
				if trials++; !must {
					granted++
				}
			}
		}
		n.list(t)
	}
	t.Logf("%d answers, %d of them let the Pod use the image, %d files spoilt, no difference", trials, granted, spoilt)
	assert.Greater(t, granted, trials/10)
	assert.Less(t, granted, trials*9/10)
}

// change lets the kubelet's code write a note of a pull, and then often its result.
func (n *node) change(t *testing.T, r *rand.Rand) {
	image, id := pickOf(r, recordImages), pickOf(r, recordIDs)
	require.NoError(t, n.theirs.RecordPullIntent(klog.Background(), image))
	creds := &kubeletconfig.ImagePullCredentials{}
	switch r.IntN(6) {
	case 0:
		return // the pull goes on
	case 1:
		n.theirs.RecordImagePullFailed(t.Context(), image)
		return
	case 2:
		creds.NodePodsAccessible = true
	case 3:
		creds.KubernetesServiceAccounts = []kubeletconfig.ImagePullServiceAccount{{Namespace: "web", Name: "sa", UID: "sa1"}}
	default:
		for _, s := range credentialsOf(t, randomSecrets(r), image) {
			creds.KubernetesSecrets = []kubeletconfig.ImagePullSecret{s}
		}
	}
	n.theirs.RecordImagePulled(t.Context(), image, id, creds)
}

// spoil changes a file of the kubelet: to the older version of the API, or so that it may not be
// readable any more. It returns how many files it has changed.
func (n *node) spoil(t *testing.T, r *rand.Rand) int {
	files, err := filepath.Glob(filepath.Join(n.dir, "image_manager", pickOf(r, []string{"pulled", "pulling"}), "sha256-*"))
	require.NoError(t, err)
	if len(files) == 0 {
		return 0
	}
	name := pickOf(r, files)
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	switch r.IntN(8) {
	case 0:
		data = data[:r.IntN(len(data))]
	case 1:
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
	case 2:
		data = bytes.Replace(data, []byte("{"), []byte(`{"more":1,`), 1+r.IntN(3))
	case 3:
		data = bytes.Replace(data, []byte(`"image`), []byte(`"Image`), 1)
	case 4:
		data = append(data, "{}"...)
	case 5:
		data = bytes.Replace(data, []byte(`,"`), []byte(`,"kind":"ImagePulledRecord","`), 1)
	default:
		data = bytes.Replace(data, []byte("v1beta1"), []byte("v1alpha1"), 1)
	}
	require.NoError(t, os.WriteFile(name, data, 0o600))
	return 1
}

// list compares the lists of all records and notes that both sides read.
func (n *node) list(t *testing.T) {
	theirs, _ := n.accessor.ListImagePulledRecords() // the rest can be read in spite of an error
	want, got := []string{}, []string{}
	for _, rec := range theirs {
		want = append(want, rec.ImageRef)
	}
	for rec, err := range n.store.List(t.Context()) {
		if err == nil {
			got = append(got, rec.ID)
		}
	}
	assert.ElementsMatch(t, want, got)
	intents, _ := n.accessor.ListImagePullIntents()
	noted := []string{}
	for image, err := range n.store.Intents(t.Context()) {
		if err == nil {
			noted = append(noted, image)
		}
	}
	all := []string{}
	for _, in := range intents {
		all = append(all, in.Image)
	}
	assert.ElementsMatch(t, all, noted)
}

var update = flag.Bool("update", false, "write the files of the kubelet into the testdata of package records")

// TestTestdataOfRecordsIsTheKubelets lets the kubelet's own code write the records and notes that
// the tests of package records read.
func TestTestdataOfRecordsIsTheKubelets(t *testing.T) {
	quietKlog(t)
	dir := t.TempDir()
	accessor, err := pullmanager.NewFSPullRecordsAccessor(klog.Background(), dir)
	require.NoError(t, err)
	login := &credentialprovider.AuthConfig{Username: "robot", Password: "<correct> horse", Email: "robot@example.test"}
	source := &credentialprovider.CredentialSource{Secret: &credentialprovider.SecretCoordinates{UID: "7", Namespace: "web", Name: "regcred"}}
	updated := metav1.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, rec := range []kubeletconfig.ImagePulledRecord{
		{ImageRef: "sha256:1", CredentialMapping: map[string]kubeletconfig.ImagePullCredentials{
			"registry.example/team/app": {KubernetesSecrets: []kubeletconfig.ImagePullSecret{
				{UID: "7", Namespace: "web", Name: "regcred", CredentialHash: credentialprovider.NewTrackedAuthConfig(login, source).AuthConfigHash},
			}},
			"registry.example/team/copy": {KubernetesServiceAccounts: []kubeletconfig.ImagePullServiceAccount{{UID: "8", Namespace: "web", Name: "builder"}}},
		}},
		{ImageRef: "sha256:2", CredentialMapping: map[string]kubeletconfig.ImagePullCredentials{"nginx": {NodePodsAccessible: true}}},
		{ImageRef: "sha256:3"},
	} {
		rec.LastUpdatedTime = updated
		require.NoError(t, accessor.WriteImagePulledRecord(klog.Background(), &rec))
	}
	for _, image := range []string{"registry.example/team/app:v2", "nginx"} {
		require.NoError(t, accessor.WriteImagePullIntent(klog.Background(), image))
	}
	const testdata = "../../puller/records/testdata/kubelet"
	if *update {
		require.NoError(t, os.RemoveAll(testdata))
		require.NoError(t, os.CopyFS(testdata, os.DirFS(dir)))
	}
	files := 0
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		want, err1 := os.ReadFile(filepath.Join(dir, name))
		got, err2 := os.ReadFile(filepath.Join(testdata, name))
		assert.NoError(t, errors.Join(err1, err2))
		assert.Equal(t, string(want), string(got), name)
		return nil
	}))
	assert.Equal(t, 5, files)
}
