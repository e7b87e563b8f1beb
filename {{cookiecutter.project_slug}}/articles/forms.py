from django import forms

from .models import Comment


class CommentForm(forms.ModelForm):
    """What a visitor may say. The limits are the model's, so that the admin and the page agree."""

    class Meta:
        model = Comment
        fields = ["author_name", "body"]
        widgets = {
            "author_name": forms.TextInput(attrs={"autocomplete": "name"}),
            "body": forms.Textarea(attrs={"rows": 4}),
        }
