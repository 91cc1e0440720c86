// Package oracle compares pullkit with the code of the kubelet, containerd and
// client-go on generated inputs. It is slow to build, so it is run only on demand:
//
//	go test -count=1 -v .
package oracle
