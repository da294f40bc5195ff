package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

// removeLeaves has all certificates of a cluster made anew, as if they had come to their
// end. It returns the API server's.
func (r *rig) removeLeaves(name string) *tls.Certificate {
	r.Helper()
	keys := cluster.KeyDir(r.StateDir(), name)
	former, err := pki.ReadPair(filepath.Join(keys, "apiserver.pem"))
	r.must(err)
	leaves, _ := filepath.Glob(filepath.Join(keys, "*.pem"))
	for _, leaf := range leaves {
		r.must(os.Remove(leaf))
	}
	return former
}

// checkRenewed waits until the API server shows its new certificate and all components are
// well with theirs. That none was started again is for the caller to check.
func (r *rig) checkRenewed(name, endpoint string, former *tls.Certificate) {
	r.Helper()
	roots, err := pki.ReadRoots(filepath.Join(cluster.KeyDir(r.StateDir(), name), "ca.crt"))
	r.must(err)
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(endpoint, "https://"), &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
		if err != nil {
			return false, err
		}
		defer conn.Close()
		return !bytes.Equal(conn.ConnectionState().PeerCertificates[0].Raw, former.Certificate[0]), nil
	}))
	// Controller-manager answers a write, with its own new certificate.
	admin := r.administrator(name, endpoint)
	_, err = admin.CoreV1().Namespaces().Create(r.ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: "renewed"}}, meta.CreateOptions{})
	r.must(err)
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		_, err := admin.CoreV1().ServiceAccounts("renewed").Get(r.ctx, "default", meta.GetOptions{})
		return err == nil, nil
	}))
}

// age makes a cluster's authority one of more than eight years ago, and returns it.
func (r *rig) age(name string) *x509.Certificate {
	r.Helper()
	path := filepath.Join(cluster.KeyDir(r.StateDir(), name), cluster.Authority)
	pair, err := tls.LoadX509KeyPair(path+".crt", path+".key")
	r.must(err)
	const year = 365 * 24 * time.Hour
	old := *pair.Leaf
	old.NotBefore, old.NotAfter = time.Now().Add(-8*year-time.Hour), time.Now().Add(2*year-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &old, &old, pair.Leaf.PublicKey, pair.PrivateKey)
	r.must(err)
	r.must(os.WriteFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	former, err := x509.ParseCertificate(der)
	r.must(err)
	return former
}

// checkAuthorityIsRenewed looks at the authority that the API tells, and calls the API
// server as those who know only the former do.
func (r *rig) checkAuthorityIsRenewed(name string, former *x509.Certificate) {
	r.Helper()
	var endpoint string
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		answer, err := r.EKS.DescribeCluster(r.ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
		if err != nil {
			return false, err
		}
		endpoint = *answer.Cluster.Endpoint
		told, err := base64.StdEncoding.DecodeString(*answer.Cluster.CertificateAuthority.Data)
		r.must(err)
		block, _ := pem.Decode(told)
		renewed, err := x509.ParseCertificate(block.Bytes)
		return err == nil && renewed.NotAfter.After(former.NotAfter.AddDate(7, 0, 0)), err
	}))
	roots := x509.NewCertPool()
	roots.AddCert(former)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(endpoint, "https://"), &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
	r.must(err)
	r.must(conn.Close())
}
