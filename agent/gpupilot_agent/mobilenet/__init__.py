"""The model that is served: MobileNetV4 conv small, its images, its classes, its accuracy."""
