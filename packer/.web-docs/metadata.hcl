integration {
  name        = "Ovenbird"
  description = "Bake Kubernetes nodes for Amazon EKS and EC2 without launching an instance."
  identifier  = "packer/ovenbird-dev/ovenbird"
  component {
    type = "builder"
    name = "Ovenbird Image"
    slug = "image"
  }
  component {
    type = "provisioner"
    name = "Ovenbird Node"
    slug = "node"
  }
  component {
    type = "post-processor"
    name = "Ovenbird AMI"
    slug = "ami"
  }
  component {
    type = "data-source"
    name = "Ovenbird Release"
    slug = "release"
  }
}
