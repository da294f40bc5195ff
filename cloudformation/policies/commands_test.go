package policies_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	awsCommand = regexp.MustCompile(`\baws ([a-z0-9]+) (wait )?([a-z-]+)`)
	awsFlag    = regexp.MustCompile(`--[a-z-]+`)
)

// commands are the IAM actions that the AWS CLI needs for what a script does with it, each
// with the lines that need it.
func commands(root, script string, _ []string) (map[string][]string, error) {
	content, err := os.ReadFile(filepath.Join(root, script))
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for i, line := range strings.Split(string(content), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		var actions []string
		for _, match := range awsCommand.FindAllStringSubmatch(line, -1) {
			if special, ok := entails[match[1]+" "+match[2]+match[3]]; ok {
				actions = append(actions, special...)
			} else {
				actions = append(actions, match[1]+":"+camel(match[3]))
			}
		}
		for _, flag := range awsFlag.FindAllString(line, -1) {
			actions = append(actions, entails[flag]...)
		}
		for _, action := range actions {
			used[action] = append(used[action], fmt.Sprintf("%s:%d", script, i+1))
		}
	}
	return used, nil
}

// camel makes an operation of the CLI's word for it: DescribeInstances of describe-instances.
func camel(words string) string {
	var out strings.Builder
	for word := range strings.SplitSeq(words, "-") {
		if word != "" {
			out.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return out.String()
}
