package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	kubelet "k8s.io/kubernetes/pkg/credentialprovider/secrets"
)

// pullSecrets are n secrets with one login each, for a registry of their own and,
// every tenth, for a path of a shared one; once as the kubelet has them, once as
// we do.
func pullSecrets(n int) (theirs []v1.Secret, ours []credentials.Secret) {
	for i := range n {
		key := fmt.Sprintf("registry-%d.example:5000", i)
		if i%10 == 0 {
			key = fmt.Sprintf("shared.example/team-%d", i)
		}
		text := fmt.Appendf(nil, `{"auths":{%q:{"auth":"dXNlcjpwYXNzd29yZA=="}}}`, key)
		data := map[string][]byte{v1.DockerConfigJsonKey: text}
		theirs = append(theirs, v1.Secret{Type: v1.SecretTypeDockerConfigJson, Data: data})
		ours = append(ours, credentials.Secret{Type: credentials.TypeDockerConfigJSON, Data: credentials.ConcealData(data)})
	}
	return theirs, ours
}

const credImage = "registry-7.example:5000/team/app:v1"

// BenchmarkKeyringBuild and BenchmarkKeyringLookup stand beside the kubelet's
// keyring, which sorts all keys for each secret and reads all keys for each look-up.
func BenchmarkKeyringBuild(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000} {
		theirs, ours := pullSecrets(n)
		b.Run(fmt.Sprintf("kubelet/%d", n), func(b *testing.B) {
			for b.Loop() {
				_, err := kubelet.MakeDockerKeyring(theirs, credentialprovider.UnionDockerKeyring{})
				require.NoError(b, err)
			}
		})
		b.Run(fmt.Sprintf("pullkit/%d", n), func(b *testing.B) {
			for b.Loop() {
				credentials.FromSecrets(ours...)
			}
		})
	}
}

func BenchmarkKeyringLookup(b *testing.B) {
	ref := reference.MustParse(credImage)
	for _, n := range []int{10, 100, 1000, 5000} {
		theirs, ours := pullSecrets(n)
		their, err := kubelet.MakeDockerKeyring(theirs, credentialprovider.UnionDockerKeyring{})
		require.NoError(b, err)
		our := credentials.FromSecrets(ours...)
		b.Run(fmt.Sprintf("kubelet/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				their.Lookup(ref.Name())
			}
		})
		b.Run(fmt.Sprintf("pullkit/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for range our.Lookup(b.Context(), ref) {
				}
			}
		})
	}
}

// TestKeyringScale measures build and look-up of 10 to 5,000 secrets in
// interleaved rounds and takes the least of each. The kubelet builds 5,000 once
// only: it takes long.
func TestKeyringScale(t *testing.T) {
	ref := reference.MustParse(credImage)
	const lookups = 200
	for _, n := range []int{10, 100, 1000, 5000} {
		theirs, ours := pullSecrets(n)
		rounds := 5
		if n == 5000 {
			rounds = 1
		}
		type times struct{ build, lookup time.Duration }
		kube, own := times{time.Hour, time.Hour}, times{time.Hour, time.Hour}
		for range rounds {
			start := time.Now()
			their, err := kubelet.MakeDockerKeyring(theirs, credentialprovider.UnionDockerKeyring{})
			kube.build = min(kube.build, time.Since(start))
			require.NoError(t, err)
			start = time.Now()
			their.Lookup(ref.Name())
			kube.lookup = min(kube.lookup, time.Since(start))
			for range 5 {
				start = time.Now()
				our := credentials.FromSecrets(ours...)
				own.build = min(own.build, time.Since(start))
				start = time.Now()
				for range lookups {
					for range our.Lookup(t.Context(), ref) {
					}
				}
				own.lookup = min(own.lookup, time.Since(start)/lookups)
			}
		}
		t.Logf("%5d secrets: build %v (kubelet %v), look-up %v (kubelet %v)", n, own.build, kube.build, own.lookup, kube.lookup)
		assert.Less(t, own.build, 2*kube.build, "%d secrets", n)
		assert.Less(t, own.lookup, kube.lookup, "%d secrets", n)
	}
}
