// Command pin shows an admission webhook that replaces tags by digests, so that all Pods of
// a workload run the same code, even if the tag moves. The webhook (webhook.go) is an
// http.Handler that calls Puller.Resolve. The command sends it one request on loopback, for
// a Pod with a private image.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: pin    (a demonstration on loopback; it takes no arguments)") }
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := demo(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pin:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, out io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{
		Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "the-password"}},
	})
	if err != nil {
		return err
	}
	defer reg.Close()
	for i, name := range []string{"team/app:latest", "team/migrate:v7", "team/model:v3"} {
		if _, err := reg.PutImage(name, pullertest.ImageSpec{Seed: uint64(i)}); err != nil {
			return err
		}
	}
	hook, err := newWebhook(secretsFor(reg.Host()))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// In a cluster the server needs https, with a certificate that the
	// MutatingWebhookConfiguration trusts.
	server := &http.Server{Handler: hook, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	defer server.Close()
	go func() { _ = server.Serve(listener) }() // until Close

	pod := fmt.Sprintf(`{
  "metadata": {"name": "app", "namespace": "web"},
  "spec": {
    "imagePullSecrets": [{"name": "regcred"}],
    "initContainers": [{"name": "migrate", "image": "%[1]s/team/migrate:v7"}],
    "containers": [{"name": "app", "image": "%[1]s/team/app:latest", "imagePullPolicy": "IfNotPresent"}],
    "volumes": [{"name": "model", "image": {"reference": "%[1]s/team/model:v3"}}]
  }
}`, reg.Host())
	fmt.Fprintf(out, "-- The Pod as it was sent:\n%s\n", pod)
	review := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
		"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "web", "kind": {"version": "v1", "kind": "Pod"},
		"object": %s}}`, pod)
	answer, err := post(ctx, "http://"+listener.Addr().String()+"/pin?timeout=10s", review)
	if err != nil {
		return err
	}
	if !answer.Allowed {
		return fmt.Errorf("denied: %s", answer.Status.Message)
	}
	var patch bytes.Buffer
	if err := json.Indent(&patch, answer.Patch, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\n-- The patch that the webhook answers with:\n%s\n", patch.String())
	return err
}

// post sends a request to the webhook, as the API server does.
func post(ctx context.Context, url, review string) (admissionResponse, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(review)))
	if err != nil {
		return admissionResponse{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return admissionResponse{}, err
	}
	defer res.Body.Close()
	var answer admissionReview
	if err := json.NewDecoder(io.LimitReader(res.Body, maxReview)).Decode(&answer); err != nil || answer.Response == nil {
		return admissionResponse{}, fmt.Errorf("%s: not an AdmissionReview: %v", res.Status, err)
	}
	return *answer.Response, nil
}

func newWebhook(secrets secretsFunc) (*webhook, error) {
	// There is no Store, because Resolve asks only for a digest. The platform of this
	// machine does not matter, either.
	rt, err := transfer.New(transfer.Config{})
	if err != nil {
		return nil, err
	}
	p, err := puller.New(puller.Config{Runtime: rt})
	return &webhook{puller: p, secrets: secrets}, err
}

// secretsFor takes the place of a client of the Kubernetes API.
func secretsFor(host string) secretsFunc {
	return func(_ context.Context, namespace string, names []string) (credentials.Keyring, error) {
		data, err := credentials.DockerConfig{Server: host, Username: "robot", Password: credentials.Conceal("the-password")}.JSON()
		var found []credentials.Secret
		for _, name := range names {
			found = append(found, credentials.Secret{
				Namespace: namespace, Name: name, Type: credentials.TypeDockerConfigJSON,
				Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: data}),
			})
		}
		return credentials.FromSecrets(found, credentials.Rules{}), err
	}
}
