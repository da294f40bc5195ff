package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// ReadPair reads a leaf: a certificate and its key from one file.
func ReadPair(path string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &pair, nil
}

// ReadRoots reads the certificate of an authority.
func ReadRoots(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return roots, nil
}

// ClientTLS connects to the server host with the leaf and the authority in two files. Both
// are read for every connection, so that neither renewal needs a new client.
func ClientTLS(authority, leaf, host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return ReadPair(leaf)
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does all of it, with roots as they are now
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, err := ReadRoots(authority)
			if err != nil {
				return err
			}
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
			return err
		},
	}
}

// ServerTLS serves with the leaf in a file, to clients that the authority in another one
// signed. Both are read for every connection.
func ServerTLS(authority, leaf string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			roots, err := ReadRoots(authority)
			if err != nil {
				return nil, err
			}
			pair, err := ReadPair(leaf)
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
				Certificates: []tls.Certificate{*pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
			}, nil
		},
	}
}
