package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/awscall"
)

// advised is an error of which is known, where it comes from, what to do about it.
type advised struct {
	error
	advice string
}

func (a advised) Unwrap() error { return a.error }

func withAdvice(err error, advice string) error { return advised{err, advice} }

// advise says what to do about err of an attempt at phase.
func advise(phase string, err error) string {
	var known advised
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "The disk is full. " + advice.Space
	case errors.As(err, &known):
		return known.advice
	}
	switch phase {
	case "metadata":
		return advice.Metadata
	case "configuration":
		return advice.ClusterName
	case "identity", "api-server":
		return adviseOnAPIServer(err)
	case "containerd":
		return advice.Unit("containerd")
	case "kubelet":
		return advice.Unit("kubelet")
	case "host":
		return advice.Unit("ovenbird-host")
	case "control-planes":
		return advice.Unit("ovenbird")
	case "network", "ready":
		if text := adviseOnConnection(err); text != "" {
			return text
		}
		if phase == "network" {
			return advice.PodNetwork
		}
		return advice.NodeNotReady
	}
	return advice.Agent
}

// adviseOnEKS is about err of DescribeCluster.
func adviseOnEKS(err error) string {
	var refused *awscall.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		switch refused.Code {
		case "AccessDeniedException":
			return advice.DescribeDenied
		case "ResourceNotFoundException":
			return advice.NoCluster
		case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired":
			return advice.Clock
		}
		return advice.EKSTrouble
	case errors.Is(err, awscall.ErrNoCredentials):
		return advice.Credentials
	case errors.As(err, &certificate):
		return advice.DescribeTLS
	case isUnreachable(err), errors.Is(err, awscall.ErrNoAnswer):
		return advice.DescribeUnreachable
	}
	return advice.ClusterState
}

// isUnreachable tells whether err is of a connection that does not come about.
func isUnreachable(err error) bool {
	var name *net.DNSError
	var dial *net.OpError
	return errors.As(err, &name) || errors.As(err, &dial) || errors.Is(err, context.DeadlineExceeded)
}

// adviseOnAPIServer is about err of a call to the API server.
func adviseOnAPIServer(err error) string {
	var denied *apiserver.DeniedError
	var late overdue
	switch {
	case errors.As(err, &denied):
		return advice.RequestDenied
	case errors.Is(err, apiserver.ErrWrongClock):
		return advice.Clock
	case errors.Is(err, apiserver.ErrUnauthorized):
		return advice.AccessEntry
	case errors.As(err, &late): // calls end sooner; only the watch for the certificate lasts
		return advice.RequestPending
	case strings.Contains(err.Error(), "get AWS credentials"): // as ststoken says; what is below has no type
		return advice.Credentials
	}
	if text := adviseOnConnection(err); text != "" {
		return text
	}
	return advice.Agent
}

// adviseOnConnection returns "" when err is of another kind.
func adviseOnConnection(err error) string {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var status *apiserver.StatusError
	switch {
	case errors.As(err, &name):
		return advice.Name(name.Name)
	case errors.As(err, &certificate), errors.As(err, &record):
		return advice.TLS(err)
	case errors.As(err, &status) && (status.Code >= http.StatusInternalServerError || status.Code == http.StatusTooManyRequests):
		return advice.NotReady
	case isUnreachable(err):
		return advice.Connection("the API endpoint")
	}
	return ""
}
