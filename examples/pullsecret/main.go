// Command pullsecret shows which credentials are tried for a Pod's image, and in which
// order: two imagePullSecrets, of which the first is stale, and the node's config.json. The
// command does not pull the image: a function of the program sends a request to a registry
// on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: pullsecret    (a demonstration on loopback; it takes no arguments)")
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pullsecret:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{
		Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "the-new-password"}},
	})
	if err != nil {
		return err
	}
	defer reg.Close()
	if _, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{}); err != nil {
		return err
	}
	ref, err := reference.Parse(reg.Host() + "/team/app:v1")
	if err != nil {
		return err
	}
	secrets, err := credentials.ParseSecrets(manifest(reg.Host()))
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := s.Validate(); err != nil { // the API server's check of a Secret
			return err
		}
	}
	node, err := nodeConfig(reg.Host())
	if err != nil {
		return err
	}

	// The Pod's secrets are one source, in which longer keys come first, and equal keys are
	// in the order of the secrets. The node's file comes after all secrets.
	ring := credentials.Join(credentials.FromSecrets(secrets, credentials.Rules{}), node)
	fmt.Fprintf(out, "Candidates for %s, in order:\n", ref.Name())
	n := 0
	for cred, err := range ring.Lookup(ctx, ref) {
		if err != nil {
			return err
		}
		n++
		fmt.Fprintf(out, "  %d  %-7s %s\n", n, cred.Username, cred.Origin)
	}

	fmt.Fprintln(out, "\nEach one, with the registry's answer:")
	digest, err := credentials.Each(ctx, ring, ref, func(ctx context.Context, cred credentials.Credential) (string, error) {
		digest, err := head(ctx, content.Repo{Ref: ref, Cred: cred})
		answer := "accepted"
		if err != nil {
			answer = err.Error()
		}
		fmt.Fprintf(out, "     %-7s %s\n", cred.Username, answer)
		return digest, err
	})
	if err != nil {
		return err // an *AttemptsError: one answer for each candidate
	}
	fmt.Fprintf(out, "\n%s is %s\n", ref, digest)
	return nil
}

// head is the function that a program calls with one credential: it asks for the digest
// of a tag. After a 401, Each goes on with the next credential. An error marked with
// credentials.Stop would end Each.
func head(ctx context.Context, repo content.Repo) (string, error) {
	url := "http://" + repo.Ref.Registry() + "/v2/" + repo.Ref.Repository() + "/manifests/" + repo.Ref.Tag()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return "", credentials.Stop(err)
	}
	if !repo.Cred.Anonymous() {
		req.SetBasicAuth(repo.Cred.Username, repo.Cred.Password.Reveal())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", credentials.Stop(err) // the network is the same for all credentials
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", credentials.WithStatus(errors.New(res.Status), res.StatusCode)
	}
	return res.Header.Get("Docker-Content-Digest"), nil
}

// nodeConfig writes a config.json, and reads it as the kubelet reads the node's.
func nodeConfig(host string) (*credentials.File, error) {
	dir, err := os.MkdirTemp("", "pullsecret-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	data, err := credentials.DockerConfig{Server: host, Username: "node", Password: credentials.Conceal("the-password-of-the-node")}.JSON()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		return nil, err
	}
	return credentials.ReadFile(filepath.Join(dir, "config.json"), credentials.Rules{})
}

// manifest returns the Pod's imagePullSecrets as a manifest for kubectl apply.
func manifest(host string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Secret
metadata: {name: stale, namespace: web}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths": {"%[1]s/team": {"username": "robot", "password": "the-old-password"}}}'
---
apiVersion: v1
kind: Secret
metadata: {name: current, namespace: web}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths": {"%[1]s": {"username": "robot", "password": "the-new-password"}}}'
`, host)
}
