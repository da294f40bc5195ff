package ststoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// The versions in which kubectl and kubelet ask a program for a token, with the versions'
// answers being alike. The caller says which it wants in the variable ExecInfo.
const (
	ExecV1      = "client.authentication.k8s.io/v1"
	ExecV1beta1 = "client.authentication.k8s.io/v1beta1"

	ExecInfo = "KUBERNETES_EXEC_INFO"
)

// ExecVersion returns the version that the value of ExecInfo asks for, and the usual one
// where there is no such caller.
func ExecVersion(info, usual string) (string, error) {
	if info == "" {
		return usual, nil
	}
	var asked struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal([]byte(info), &asked); err != nil {
		return "", errors.New(ExecInfo + " is not JSON")
	}
	if asked.APIVersion != ExecV1 && asked.APIVersion != ExecV1beta1 {
		return "", fmt.Errorf("%s asks for %q: want %s or %s", ExecInfo, asked.APIVersion, ExecV1, ExecV1beta1)
	}
	return asked.APIVersion, nil
}

// WriteExecCredential writes the answer: the token, and when to ask again.
func WriteExecCredential(w io.Writer, version, token string, expires time.Time) error {
	type status struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expirationTimestamp"`
	}
	return json.NewEncoder(w).Encode(struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Spec       map[string]any `json:"spec"`
		Status     status         `json:"status"`
	}{version, "ExecCredential", map[string]any{}, status{token, expires.UTC().Truncate(time.Second)}})
}
